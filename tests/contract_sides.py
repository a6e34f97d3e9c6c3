"""What the client contract is tested on: a side starts clients and moves the world. Here the scripted fake's.

A test speaks of phones and sees observations; which side it is on shows in `name` alone. The other side, the real
library, is in contract_real.py.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from sessions_app.whatsapp import outgoing
from sessions_app.whatsapp.client import Kind, Observation, PairFailure, Sent
from sessions_app.whatsapp.contents import Content
from sessions_app.whatsapp.fake import FakeWhatsApp
from sessions_app.whatsapp.inbound import Inbound, Message, Receipt, ReceiptKind
from sessions_app.whatsapp.symptoms import TERMINAL

PATIENCE = 60.0


class Heard:
    """What arrived, in order; waits for what is to come."""

    def __init__(self) -> None:
        self.all: list[Inbound] = []
        self._changed = threading.Condition()

    def __call__(self, inbound: Inbound) -> None:
        with self._changed:
            self.all.append(inbound)
            self._changed.notify_all()

    @property
    def messages(self) -> list[Message]:
        """Return the messages so far."""
        return [each for each in self.all if isinstance(each, Message)]

    def message(self, nth: int = 1) -> Message:
        """Return the nth message, waiting for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= nth, PATIENCE), self.all
            return self.messages[nth - 1]

    def receipt(self, identity: str, kind: ReceiptKind) -> Receipt:
        """Return the first receipt of that kind for a message, waiting for it."""

        def found() -> list[Receipt]:
            return [each for each in self.all
                    if isinstance(each, Receipt) and identity in each.ids and each.kind is kind]  # fmt: skip

        with self._changed:
            assert self._changed.wait_for(found, PATIENCE), self.all
            return found()[0]


class Seen:
    """What was observed, in order; waits for what is to come."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self._changed = threading.Condition()

    def __call__(self, observation: Observation) -> None:
        with self._changed:
            self.all.append(observation)
            self._changed.notify_all()

    def of(self, *kinds: Kind) -> list[Observation]:
        """Return the observations of these kinds so far."""
        with self._changed:
            return [observation for observation in self.all if observation.kind in kinds]

    def wait(self, *kinds: Kind, nth: int = 1, timeout: float = PATIENCE) -> Observation:
        """Return the nth observation of these kinds, waiting for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(*kinds)) >= nth, timeout), self.kinds()
            return self.of(*kinds)[nth - 1]

    def kinds(self) -> list[str]:
        """Return the kinds seen, for a message."""
        return [observation.kind.value for observation in self.all]

    def end(self) -> Observation:
        """Return the one terminal observation, waiting for it."""
        self.wait(*TERMINAL)
        assert len(self.of(*TERMINAL)) == 1, self.kinds()
        return self.all[-1]


class Subject(ABC):
    """A client or pairing under test."""

    def __init__(self, store: str) -> None:
        self.store, self.seen, self.heard = store, Seen(), Heard()

    @abstractmethod
    def ask(self, what: str, **arguments: Any) -> Any:
        """Call a method of the client or pairing. Raises WhatsAppError when it does."""

    @abstractmethod
    def send(self, chat: str, content: Content) -> Sent:
        """Send a message to an address. Raises NotSent or Unknown."""

    @abstractmethod
    def talk(self, what: str, **arguments: Any) -> Any:
        """Ask something else of client.Client."""

    def stop(self) -> None:
        """Stop the client."""
        self.ask("stop")

    def probe(self, seconds: float = 5) -> bool:
        """Probe the client."""
        return bool(self.ask("probe", seconds=seconds))


class Side(ABC):
    """Starts clients and pairings, and moves the world around them."""

    name: str

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count(1)
        self.stores: dict[str, str] = {}  # phone -> store

    def new_store(self) -> str:
        """Return a path nobody used yet."""
        return str(self._folder / f"{self.name}-{next(self._numbers)}.db")

    def paired(self, phone: str) -> str:
        """Return a store paired with this phone."""
        pairing = self.pair()
        self.scan(pairing, phone)
        pairing.seen.wait(Kind.PAIRED)
        pairing.ask("keep")
        return pairing.store

    def online(self, phone: str) -> Subject:
        """Return a connected client of a freshly paired phone."""
        client = self.connect(self.paired(phone))
        client.seen.wait(Kind.CONNECTED)
        return client

    def scan(self, pairing: Subject, phone: str, wrong: str = "") -> None:
        """Let the phone scan the code on show; `wrong`: "hmac" or "signature"."""
        text = pairing.seen.wait(Kind.QR).detail["text"]
        self.stores[phone] = pairing.store
        self._scan(pairing.store, text, phone, wrong)

    @abstractmethod
    def connect(self, store: str, proxy: str = "") -> Subject: ...
    @abstractmethod
    def pair(self, phone: str = "", proxy: str = "") -> Subject: ...
    @abstractmethod
    def close(self) -> None: ...
    @abstractmethod
    def _scan(self, store: str, text: str, phone: str, wrong: str) -> None: ...
    @abstractmethod
    def enter_code(self, pairing: Subject, phone: str) -> None: ...
    @abstractmethod
    def drop(self, phone: str) -> None: ...
    @abstractmethod
    def stream_error(self, phone: str, code: int) -> None: ...
    @abstractmethod
    def refuse(self, phone: str, code: int | None) -> None: ...
    @abstractmethod
    def refuse_pairing(self, code: int | None) -> None: ...
    @abstractmethod
    def refuse_codes(self, phone: str, refuse: bool) -> None: ...
    @abstractmethod
    def remove_device(self, phone: str) -> None: ...
    @abstractmethod
    def silence(self, phone: str, silent: bool) -> None: ...
    @abstractmethod
    def break_network(self, how: str) -> None: ...
    @abstractmethod
    def dead_proxy(self) -> str: ...
    @abstractmethod
    def most_live(self, phone: str) -> int: ...
    @abstractmethod
    def refuse_messages(self, phone: str, code: int | None) -> None: ...
    @abstractmethod
    def absent(self, phone: str) -> None: ...
    @abstractmethod
    def make_group(self, number: str, name: str, phones: list[str], hidden: bool = False) -> str: ...
    @abstractmethod
    def set_picture(self, phone: str, url: str) -> None: ...
    @abstractmethod
    def chat_states(self, phone: str) -> list[str]: ...


class FakeSubject(Subject):
    """On the fake."""

    inner: Any

    def ask(self, what: str, **arguments: Any) -> Any:
        if "seconds" in arguments:
            arguments = {"timeout": timedelta(seconds=arguments["seconds"])}
        result = getattr(self.inner, what)(**arguments)
        return result.total_seconds() if isinstance(result, timedelta) else result

    def send(self, chat: str, content: Content) -> Sent:
        sent: Sent = self.inner.send(chat, content)
        return sent

    def talk(self, what: str, **arguments: Any) -> Any:
        return getattr(self.inner, what)(**arguments)


class FakeSide(Side):
    """The scripted fake."""

    name = "fake"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.whatsapp = FakeWhatsApp()
        self._pairing_refusal: int | None = None

    def connect(self, store: str, proxy: str = "") -> Subject:
        subject = FakeSubject(store)
        subject.inner = self.whatsapp.connect(store, proxy, subject.seen, subject.heard)
        return subject

    def pair(self, phone: str = "", proxy: str = "") -> Subject:
        subject = FakeSubject(self.new_store())
        subject.inner = self.whatsapp.pair(subject.store, proxy, subject.seen, phone)
        if self._pairing_refusal is not None:
            outdated = self._pairing_refusal == 405
            self.whatsapp.fail_pairing(subject.store, PairFailure.OUTDATED if outdated else PairFailure.UNEXPECTED)
        return subject

    def close(self) -> None:
        self.whatsapp.close()

    def _scan(self, store: str, text: str, phone: str, wrong: str) -> None:
        self.whatsapp.scan(store, phone, wrong)

    def enter_code(self, pairing: Subject, phone: str) -> None:
        self.stores[phone] = pairing.store
        self.whatsapp.scan(pairing.store, phone)

    def drop(self, phone: str) -> None:
        self.whatsapp.drop(self.stores[phone])

    def stream_error(self, phone: str, code: int) -> None:
        self.whatsapp.emit(self.stores[phone], Observation(Kind.STREAM_ERROR, code))
        self.drop(phone)

    def refuse(self, phone: str, code: int | None) -> None:
        self.whatsapp.refuse(self.stores[phone], code or 0, 0 if code is None else -1)

    def refuse_pairing(self, code: int | None) -> None:
        self._pairing_refusal = code

    def refuse_codes(self, phone: str, refuse: bool) -> None:
        if refuse:
            self.whatsapp.refuse_phone(phone)

    def remove_device(self, phone: str) -> None:
        self.whatsapp.remove_device(self.stores[phone])

    def silence(self, phone: str, silent: bool) -> None:
        (self.whatsapp.silence if silent else self.whatsapp.answer)(self.stores[phone])

    def break_network(self, how: str) -> None:
        self.whatsapp.break_network({"refused": "proxy_refused", "blackhole": "proxy_timeout"}.get(how, ""))

    def dead_proxy(self) -> str:
        self.whatsapp.server.dead_proxies.add("http://user:secret@dead")
        return "http://user:secret@dead"

    def most_live(self, phone: str) -> int:
        return self.whatsapp.server.most_live.get(self.stores[phone], 0)

    def refuse_messages(self, phone: str, code: int | None) -> None:
        if code is not None:
            failure = outgoing.failure(f"server returned error {code}")
            self.whatsapp.fail_sends(phone, failure)

    def absent(self, phone: str) -> None:
        self.whatsapp.absent(phone)

    def make_group(self, number: str, name: str, phones: list[str], hidden: bool = False) -> str:
        return self.whatsapp.make_group(number, name, phones, hidden)

    def set_picture(self, phone: str, url: str) -> None:
        self.whatsapp.set_picture(phone, url)

    def chat_states(self, phone: str) -> list[str]:
        return [state.value for who, _, state in self.whatsapp.server.post.typing if who == phone]
