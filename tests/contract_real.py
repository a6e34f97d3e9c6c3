"""The real side of the client contract: NeonizeWhatsApp in a driver process, on the simulator."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import threading
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sessions_app.whatsapp import client as client_module
from sessions_app.whatsapp import inbound as inbound_module
from sessions_app.whatsapp.client import Kind, NotSent, Observation, Sent, Unknown, WhatsAppError
from sessions_app.whatsapp.contents import Content, Media, pack
from sessions_app.whatsapp.inbound import load
from tests.contract_sides import PATIENCE, Heard, Seen, Side, Subject
from tests.wasim import Wasim

ROOT = Path(__file__).parents[1]


class Driver:
    """The driver process, spoken to over a socket pair."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.neonize_driver", str(theirs.fileno())], cwd=ROOT,
                pass_fds=(theirs.fileno(),), env={**os.environ, **environment},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self._ids = count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self.observers: dict[str, Seen] = {}
        self.receivers: dict[str, Heard] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def begin(self, do: str, **arguments: Any) -> int:
        """Send a command without waiting; return its number."""
        number = next(self._ids)
        self._socket.sendall(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        return number

    def answer(self, number: int, timeout: float = 120) -> Any:
        """Return a command's result. Raises WhatsAppError when it did."""
        with self._answered:
            assert self._answered.wait_for(lambda: number in self._answers or self.ended(), timeout)
        assert number in self._answers, f"the driver ended with {self.process.wait(5)}"
        answer = self._answers[number]
        if "not_sent" in answer:
            code, sentence, retryable, given = answer["not_sent"]
            raise NotSent(code, sentence, retryable=retryable, number=given)
        if "unknown" in answer:
            raise Unknown(answer["unknown"])
        if "refused" in answer:
            raise WhatsAppError(answer["refused"])
        assert "error" not in answer, answer
        return answer["result"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """Run a command and return its result."""
        return self.answer(self.begin(do, **arguments))

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return not self._reader.is_alive()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """End the process."""
        self._socket.shutdown(socket.SHUT_WR)
        self._end()

    def _end(self) -> None:
        self.process.wait(10)
        self._reader.join(5)
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines, contextlib.suppress(ConnectionError):  # when it was killed
            for line in lines:
                message = json.loads(line)
                if "on" in message:
                    self.observers[message["on"]](Observation(
                        Kind(message["kind"]), message["code"], message["detail"],
                        datetime.fromisoformat(message["at"]),
                    ))  # fmt: skip
                    continue
                if "to" in message:
                    self.receivers[message["to"]](load(message["inbound"].encode()))
                    continue
                with self._answered:
                    self._answers[message["id"]] = message
                    self._answered.notify_all()
        with self._answered:
            self._answered.notify_all()


class RealSubject(Subject):
    """A client or pairing in the driver."""

    def __init__(self, store: str, driver: Driver, name: str) -> None:
        super().__init__(store)
        self._driver, self.name = driver, name
        driver.observers[name] = self.seen
        driver.receivers[name] = self.heard

    def send(self, chat: str, content: Content) -> Sent:
        return self.sent(self.begin_send(chat, content))

    def begin_send(self, chat: str, content: Content) -> int:
        """Send without waiting; `sent` waits."""
        data = base64.b64encode(content.data if isinstance(content, Media) else b"").decode()
        return self.begin("send", chat=chat, kind=content.kind, content=pack(content), data=data)

    def sent(self, number: int) -> Sent:
        """Return the outcome of `begin_send`."""
        identity, at = self._driver.answer(number)
        return Sent(identity, datetime.fromisoformat(at))

    def talk(self, what: str, **arguments: Any) -> Any:
        if "source" in arguments:
            arguments["source"] = base64.b64encode(arguments["source"]).decode()
            return base64.b64decode(self._driver.ask("talk", name=self.name, what=what, arguments=arguments))
        names = {**vars(client_module), **vars(inbound_module), "datetime": dt}
        answer = self._driver.ask("talk", name=self.name, what=what, arguments=arguments)
        return eval(answer, names)  # our own reprs

    def ask(self, what: str, **arguments: Any) -> Any:
        return self._driver.ask(what, name=self.name, **arguments)

    def begin(self, what: str, **arguments: Any) -> int:
        """Begin without waiting."""
        return self._driver.begin(what, name=self.name, **arguments)


class RealSide(Side):
    """The real library."""

    name = "real"

    def __init__(self, folder: Path, sim: Wasim) -> None:
        super().__init__(folder)
        self.sim = sim
        self.driver = Driver(sim.environment())

    def new_subject(self, store: str) -> RealSubject:
        """Return a name for a client or pairing, observed."""
        return RealSubject(store, self.driver, f"subject-{next(self._numbers)}")

    def connect(self, store: str, proxy: str = "") -> Subject:
        subject = self.new_subject(store)
        subject.ask("connect", store=store, proxy=proxy)
        return subject

    def pair(self, phone: str = "", proxy: str = "") -> Subject:
        subject = self.new_subject(self.new_store())
        subject.ask("pair", store=subject.store, proxy=proxy, phone=phone)
        return subject

    def tune(self, dial: float = 15, sign_of_life: float = 20, afterthought: float = 0.005) -> None:
        """Set the adapter's time-outs, in seconds."""
        self.driver.ask("tune", dial=dial, sign_of_life=sign_of_life, afterthought=afterthought)

    def doze(self, few: int, after: float, every: float) -> None:
        """Set when connections doze; see sessions_app/whatsapp/doze.py."""
        self.driver.ask("doze", few=few, after=after, every=every)

    def close(self) -> None:
        self.driver.close()

    def _scan(self, store: str, text: str, phone: str, wrong: str) -> None:
        self.sim.phone(phone).scan(text, wrong=wrong)

    def enter_code(self, pairing: Subject, phone: str) -> None:
        self.stores[phone] = pairing.store
        assert self.sim.phone(phone).enter_code(pairing.seen.wait(Kind.PAIR_CODE).detail["text"]) == ""

    def drop(self, phone: str) -> None:
        self.sim.faults.drop(phone)

    def stream_error(self, phone: str, code: int) -> None:
        self.sim.faults.stream_error(phone, code)

    def refuse(self, phone: str, code: int | None) -> None:
        self.sim.faults.refuse(phone, code)

    def refuse_pairing(self, code: int | None) -> None:
        self.sim.faults.refuse_pairing(code)

    def refuse_codes(self, phone: str, refuse: bool) -> None:
        self.sim.faults.refuse_codes(refuse)

    def remove_device(self, phone: str) -> None:
        self.sim.faults.remove_device(phone)

    def silence(self, phone: str, silent: bool) -> None:
        self.sim.faults.silence(phone, silent)

    def break_network(self, how: str) -> None:
        self.sim.faults.break_network(how)

    def dead_proxy(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"

    def most_live(self, phone: str) -> int:
        return self.sim.most_live(phone)

    def refuse_messages(self, phone: str, code: int | None) -> None:
        self.sim.faults.ack_error(phone, code)

    def absent(self, phone: str) -> None:
        self.sim.phone(phone).absent()

    def make_group(self, number: str, name: str, phones: list[str], hidden: bool = False) -> str:
        return self.sim.make_group(number, name, phones, hidden)

    def set_picture(self, phone: str, url: str) -> None:
        self.sim.phone(phone).picture(url)

    def chat_states(self, phone: str) -> list[str]:
        return list(self.sim.device(phone).chat_states)


__all__ = ["PATIENCE", "Driver", "RealSide"]
