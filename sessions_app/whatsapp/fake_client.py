"""The fake's inner side: what its server knows, and its running clients and pairings. Scripted through fake.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sessions_app.whatsapp.client import Kind, Observation, Observe, PairFailure, Receive, WhatsAppError
from sessions_app.whatsapp.fake_store import FakeStore, Identity
from sessions_app.whatsapp.fake_talk import FakeTalk, Post
from sessions_app.whatsapp.inbound import Inbound, Message, ReceiptKind
from sessions_app.whatsapp.symptoms import TERMINAL, banned, connect_failed


@dataclass(frozen=True)
class Start:
    """One start of a client, as the server saw it."""

    store: str
    proxy: str
    at: float  # time.monotonic()


@dataclass
class FakeServer:
    """What all fakes of one test share: who runs, what was started, and how the server answers each store."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    starts: list[Start] = field(default_factory=list)
    clients: dict[str, FakeClient] = field(default_factory=dict)
    pairings: dict[str, FakePairing] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    most_live: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, tuple[int, int]] = field(default_factory=dict)  # store -> code, how often still
    stalled: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    stop_gates: dict[str, threading.Event] = field(default_factory=dict)
    network_error: str = ""
    dead_proxies: set[str] = field(default_factory=set)
    refused_phones: set[str] = field(default_factory=set)
    post: Post = field(default_factory=Post)

    def opened(self, store: str) -> None:
        """Count a live connection."""
        self.live[store] = self.live.get(store, 0) + 1
        self.most_live[store] = max(self.most_live.get(store, 0), self.live[store])

    def closed(self, store: str) -> None:
        """Count it off."""
        self.live[store] -= 1

    def refusal(self, store: str) -> int | None:
        """Return the code the next log-in is refused with, or None."""
        code, left = self.refusals.get(store, (0, 0))
        if left == 0:
            return None
        self.refusals[store] = (code, left - 1)
        return code

    def unreachable(self, proxy: str) -> str:
        """Return the reason why the network or the proxy fails, or ""."""
        return "proxy_unreachable" if proxy in self.dead_proxies else self.network_error


class FakeClient(FakeTalk):
    """One running fake client. Implements client.Client."""

    def __init__(self, server: FakeServer, store: str, observe: Observe, receive: Receive | None = None) -> None:
        self._server, self._store, self._observe, self._receive = server, store, observe, receive
        self.post = server.post
        self._file = FakeStore(store)
        self._stopped = self._ended = False
        self.online = False
        self.silence = timedelta()

    def stop(self) -> None:
        """Stop; waits for a gate set by `FakeWhatsApp.hold_stop`."""
        gate = self._server.stop_gates.get(self._store)
        if gate is not None:
            gate.wait()
        with self._server.lock:
            self._stopped = True
            self._offline()
            if self._server.clients.get(self._store) is self:
                del self._server.clients[self._store]

    def probe(self, timeout: timedelta) -> bool:
        """Return whether it is connected and `FakeWhatsApp.silence` was not called."""
        with self._server.lock:
            return self.online and self._store not in self._server.deaf

    def silent_for(self) -> timedelta:
        """Return what the test set."""
        return self.silence

    def logout(self) -> None:
        """Unlink. Refused unless connected and answered."""
        with self._server.lock:
            if not self.online or self._store in self._server.deaf:
                raise WhatsAppError("WhatsApp did not confirm the log-out; try again, or unlink it on the phone.")
            self._file.clear()
            self._ended = True
            self._offline()

    def login(self) -> None:
        """Log in, or be refused as scripted."""
        server, identity = self._server, self._file.read()
        code = server.refusal(self._store)
        if identity is None:
            self.observe(Observation(Kind.LOGGED_OUT, 401, {"on_connect": True, "reason": 401, "error": "no device"}))
        elif code is not None:
            if code in (401, 403):
                self._file.clear()
            self.observe(_refused(code))
        elif self._store not in server.stalled:
            older = server.clients.get(self._store)
            if older is not None and older is not self and older.online:
                older.observe(Observation(Kind.REPLACED, 440))
            self.go_online(identity)

    def go_online(self, identity: Identity) -> None:
        """Be connected."""
        if not self.online:
            self._server.opened(self._store)
        self.online = True
        self.observe(Observation(Kind.CONNECTED, None, identity.detail()))
        self.post.came(identity.phone, self)

    def observe(self, observation: Observation) -> None:
        """Pass on what happens to this client, unless it is over."""
        with self._server.lock:
            if self._stopped or self._ended:
                return
            self._ended = observation.kind in TERMINAL
            if self._ended or observation.kind is Kind.DISCONNECTED:
                self._offline()
            self._observe(observation)

    def identity(self) -> Identity | None:
        """Return who is connected."""
        return self._file.read() if self.online else None

    def deliver(self, inbound: Inbound) -> None:
        """Take what arrived; a message is confirmed to its sender."""
        if self._receive is not None:
            self._receive(inbound)
        me = self.identity()
        if isinstance(inbound, Message) and me is not None:
            self.post.receipt(me, inbound.sender.phone, inbound.chat, [inbound.id], ReceiptKind.DELIVERED)

    def _offline(self) -> None:
        if self.online:
            self.online = False
            self._server.closed(self._store)
            for phone, client in list(self.post.online.items()):
                if client is self:
                    self.post.went(phone, self)


class FakePairing:
    """One fake pairing. Implements client.Pairing."""

    def __init__(self, server: FakeServer, store: str, observe: Observe, phone: str) -> None:
        self._server, self._store, self._observe = server, store, observe
        self._file, self._fresh = FakeStore(store), not Path(store).exists()
        self._running, self._online, self._codes = True, False, 0
        self.phone = phone
        server.pairings[store] = self

    def keep(self) -> None:
        """End; the identity stays in the store."""
        self._end()

    def unlink(self) -> None:
        """Unlink and end; the store is gone."""
        self._file.clear()
        self._end()

    def cancel(self) -> None:
        """End without a word; a store without a device is deleted."""
        self._end()

    def alive(self) -> bool:
        """Return whether it was not ended yet."""
        return self._running

    def show_code(self) -> None:
        """Show the next QR code, or the 8-character code."""
        lifetime = timedelta(seconds=160 if self.phone else 20 if self._codes else 60)
        self._codes += 1
        text = "FAKE-C0DE" if self.phone else f"fake-qr-{self._codes}"
        expires_at = (datetime.now(UTC) + lifetime).isoformat()
        kind = Kind.PAIR_CODE if self.phone else Kind.QR
        self.observe(Observation(kind, None, {"text": text, "expires_at": expires_at}))

    def scanned(self, identity: Identity) -> None:
        """Be paired with this phone, and log in."""
        self._file.write(identity)
        detail = identity.detail()
        self.observe(Observation(Kind.PAIR_SCANNED, None, {k: v for k, v in detail.items() if k != "push_name"}))
        self._online = True
        self._server.opened(self._store)
        self.observe(Observation(Kind.PAIRED, None, detail))

    def fail(self, reason: PairFailure, **detail: Any) -> None:
        """End with PAIR_FAILED."""
        self.observe(Observation(Kind.PAIR_FAILED, None, {"reason": reason, "error": "as scripted", **detail}))
        self._end()

    def observe(self, observation: Observation) -> None:
        """Pass on, unless it has ended."""
        with self._server.lock:
            if self._running:
                self._observe(observation)

    def _end(self) -> None:
        with self._server.lock:
            self._running = False
            if self._online:
                self._online = False
                self._server.closed(self._store)
            self._server.pairings.pop(self._store, None)
            if self._fresh and self._file.read() is None:
                self._file.delete()


def _refused(code: int) -> Observation:
    if code in (401, 403):
        return Observation(Kind.LOGGED_OUT, code, {"on_connect": True, "reason": code})
    if code == 402:
        return banned(101, 3600)
    if code == 405:
        return Observation(Kind.OUTDATED, 405)
    return connect_failed(code, "refused", f"WhatsApp refused the log-in with code {code}.")
