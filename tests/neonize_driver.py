"""A process that hosts NeonizeWhatsApp for the contract tests: `python -m tests.neonize_driver FD`.

Of its own, because the Go library can end the whole process. Commands come as JSON lines on the socket FD, each runs
on its own thread and is answered with its id; observations are sent as they happen. The Go library may print what it
likes on stdout.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sessions_app.whatsapp import doze, neonize_client, symptoms, tunnel, upstream
from sessions_app.whatsapp.client import (
    Client,
    NotSent,
    Observation,
    Observe,
    Pairing,
    Receive,
    Typing,
    Unknown,
    WhatsAppError,
)
from sessions_app.whatsapp.contents import unpack
from sessions_app.whatsapp.inbound import Inbound, dump
from sessions_app.whatsapp.neonize_client import NeonizeClient, NeonizeWhatsApp


class Driver:
    """Runs the commands; clients and pairings are known by the name the test gives them."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._sending = line, threading.Lock()
        self._whatsapp = NeonizeWhatsApp()
        self._clients: dict[str, Client] = {}
        self._pairings: dict[str, Pairing] = {}
        self._doom: dict[str, str] = {}
        self._turned_round = threading.Event()

    def run(self) -> None:
        """Serve until the test closes the socket."""
        for text in self._line.makefile("rb"):
            threading.Thread(target=self._serve, args=(json.loads(text),), daemon=True).start()

    def _serve(self, command: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": command.pop("id")}
        try:
            act: Callable[..., Any] = getattr(self, "do_" + command.pop("do"))
            answer["result"] = act(**command)
        except NotSent as error:
            answer["not_sent"] = [error.code, str(error), error.retryable, error.number]
        except Unknown as error:
            answer["unknown"] = str(error)
        except WhatsAppError as error:
            answer["refused"] = str(error)
        except Exception as error:  # noqa: BLE001 - told to the test
            answer["error"] = repr(error)
        self._send(answer)

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._line.sendall(json.dumps(message).encode() + b"\n")

    def _observer(self, name: str) -> Observe:
        def observe(seen: Observation) -> None:
            self._send({"on": name, "kind": seen.kind, "code": seen.code, "detail": dict(seen.detail),
                        "at": seen.at.isoformat()})  # fmt: skip

        return observe

    def _receiver(self, name: str) -> Receive:
        def receive(inbound: Inbound) -> None:
            if type(inbound).__name__ == self._doom.get(name):
                time.sleep(0.3)  # time enough for the library to confirm it
                os.kill(os.getpid(), signal.SIGKILL)
            self._send({"to": name, "inbound": dump(inbound).decode()})

        return receive

    def do_connect(self, name: str, store: str, proxy: str) -> None:
        """Start a client."""
        self._clients[name] = self._whatsapp.connect(store, proxy, self._observer(name), self._receiver(name))

    def do_send(self, name: str, chat: str, kind: str, content: dict[str, Any], data: str) -> list[str]:
        """Send a message; return its id and when."""
        sent = self._clients[name].send(chat, unpack(kind, content, base64.b64decode(data)))
        return [sent.id, sent.at.isoformat()]

    def do_talk(self, name: str, what: str, arguments: dict[str, Any]) -> Any:
        """Ask a client something else; the answer as its repr, or as base64 for bytes."""
        if "source" in arguments:
            arguments["source"] = base64.b64decode(arguments["source"])
        if "state" in arguments:
            arguments["state"] = Typing(arguments["state"])
        answer = getattr(self._clients[name], what)(**arguments)
        return base64.b64encode(answer).decode() if isinstance(answer, bytes) else repr(answer)

    def do_stop(self, name: str) -> None:
        """Stop a client."""
        self._clients[name].stop()

    def do_probe(self, name: str, seconds: float) -> bool:
        """Probe a client."""
        return self._clients[name].probe(timedelta(seconds=seconds))

    def do_silent_for(self, name: str) -> float:
        """Return a client's silence in seconds."""
        return self._clients[name].silent_for().total_seconds()

    def do_logout(self, name: str) -> None:
        """Log a client out."""
        self._clients[name].logout()

    def do_pair(self, name: str, store: str, proxy: str, phone: str) -> None:
        """Start a pairing."""
        self._pairings[name] = self._whatsapp.pair(store, proxy, self._observer(name), phone)

    def do_keep(self, name: str) -> None:
        """Accept the phone."""
        self._pairings[name].keep()

    def do_unlink(self, name: str) -> None:
        """Refuse the phone."""
        self._pairings[name].unlink()

    def do_cancel(self, name: str) -> None:
        """Give a pairing up."""
        self._pairings[name].cancel()

    def do_alive(self, name: str) -> bool:
        """Return whether a pairing runs."""
        return self._pairings[name].alive()

    def do_doom(self, name: str, on: str) -> None:
        """Have the process killed a moment after a client was first told of such an Inbound, which nobody hears of."""
        self._doom[name] = on

    def do_turn_round(self) -> None:
        """Have the library's next word of a lost connection heard after that of the log-in that follows it."""
        heard = neonize_client.NeonizeClient.on_event
        late: list[bytes] = []

        def on_event(client: neonize_client.NeonizeClient, number: int, data: bytes) -> None:
            if number == symptoms.DISCONNECTED and not late:
                late.append(data)
                return
            heard(client, number, data)
            if number == symptoms.CONNECTED:
                neonize_client.NeonizeClient.on_event = heard  # type: ignore[assignment, method-assign]
                heard(client, symptoms.DISCONNECTED, late[0])
                self._turned_round.set()

        neonize_client.NeonizeClient.on_event = on_event  # type: ignore[assignment, method-assign]

    def do_turned_round(self) -> bool:
        """Return whether both were heard."""
        return self._turned_round.wait(30)

    def do_tune(self, dial: float, sign_of_life: float, afterthought: float) -> None:
        """Set the time-outs, so that a test of them does not take 35 s, and how long what is said waits."""
        upstream.DIAL_TIMEOUT, neonize_client.SIGN_OF_LIFE, tunnel._AFTERTHOUGHT = dial, sign_of_life, afterthought

    def do_doze(self, few: int, after: float, every: float) -> None:
        """Set from how many connections on, and after how many seconds, they doze, and how often they are looked at."""
        doze._FEW, doze._AFTER, doze._EVERY = few, after, every

    def do_dozes(self, name: str) -> bool:
        """Return whether a client's connection dozes."""
        client = self._clients[name]
        assert isinstance(client, NeonizeClient)
        return client._route._dozing() is not None

    def do_close(self) -> None:
        """Stop everything."""
        self._whatsapp.close()

    def do_footprint(self) -> dict[str, float]:
        """Return what this process uses: memory in MB, CPU seconds, threads, open files."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        return {
            "memory": pages * resource.getpagesize() / 1e6,
            "cpu": usage.ru_utime + usage.ru_stime,
            "threads": len(os.listdir("/proc/self/task")),
            "files": len(os.listdir("/proc/self/fd")),
        }


if __name__ == "__main__":
    Driver(socket.socket(fileno=int(sys.argv[1]))).run()
    os._exit(0)  # the Go library's threads may still want to call back
