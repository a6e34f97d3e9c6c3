"""A scripted WhatsApp for fast tests: the test says what the phone and the server do. No threads, no sleeping.

Observations are made inside the call that causes them. A paired store is a small JSON file, so a host that restarts
(or a second one) finds its sessions again; what the server does is shared by all `FakeWhatsApp` of one `FakeServer`.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from sessions_app.whatsapp.client import Group, Kind, Member, Observation, Observe, PairFailure, Picture, Receive
from sessions_app.whatsapp.fake_client import FakeClient, FakePairing, FakeServer, Start
from sessions_app.whatsapp.fake_store import FakeStore, Identity
from sessions_app.whatsapp.fake_talk import Failure, Handed
from sessions_app.whatsapp.inbound import GROUPS, USERS, Person
from sessions_app.whatsapp.symptoms import connect_failed


class FakeWhatsApp:
    """Implements client.WhatsApp, and takes the test's script. The arguments are those of NeonizeWhatsApp."""

    def __init__(self, library: str = "", proxy: str = "", server: FakeServer | None = None) -> None:
        self.server = server or FakeServer()
        self._proxy = proxy
        self._mine: list[FakeClient | FakePairing] = []

    # -- client.WhatsApp

    def connect(self, store: str, proxy: str, observe: Observe, receive: Receive | None = None) -> FakeClient:
        """Start a client; what it observes first is observed before this returns."""
        with self.server.lock:
            self.server.starts.append(Start(store, proxy or self._proxy, time.monotonic()))
            client = FakeClient(self.server, store, observe, receive)
            self._mine.append(client)
            if reason := self.server.unreachable(proxy or self._proxy):
                client.observe(connect_failed(408, reason, "The network is down, as scripted."))
            else:
                client.login()
            self.server.clients[store] = client
            return client

    def pair(self, store: str, proxy: str, observe: Observe, phone: str = "") -> FakePairing:
        """Start a pairing; its first code is observed before this returns."""
        with self.server.lock:
            pairing = FakePairing(self.server, store, observe, phone)
            self._mine.append(pairing)
            if self.server.unreachable(proxy or self._proxy):
                pairing.fail(PairFailure.NETWORK)
            elif phone in self.server.refused_phones:
                pairing.fail(PairFailure.CODE_REFUSED)
            else:
                pairing.show_code()
            return pairing

    def close(self) -> None:
        """Stop everything this one started."""
        for mine in self._mine:
            if isinstance(mine, FakeClient):
                mine.stop()
            else:
                mine.cancel()

    # -- the script: the phone

    def scan(self, store: str, phone: str = "4915112345678", wrong: str = "", push_name: str = "Fake") -> None:
        """Scan the code of the pairing into `store`; `wrong` may be "hmac" or "signature"."""
        with self.server.lock:
            pairing = self.server.pairings[store]
            if wrong:
                pairing.fail(PairFailure.HMAC_MISMATCH if wrong == "hmac" else PairFailure.SIGNATURE_MISMATCH)
            else:
                pairing.scanned(Identity.of(pairing.phone or phone, push_name))

    def remove_device(self, store: str) -> None:
        """Unlink the device on the phone."""
        FakeStore(store).clear()
        self.emit(store, Observation(Kind.LOGGED_OUT, 401, {"on_connect": False, "reason": 401}))

    def next_code(self, store: str) -> None:
        """Let the code on show be followed by the next."""
        self.server.pairings[store].show_code()

    def fail_pairing(self, store: str, reason: PairFailure = PairFailure.TIMEOUT) -> None:
        """End the pairing into `store` with a failure."""
        self.server.pairings[store].fail(reason)

    def refuse_phone(self, phone: str) -> None:
        """Give no 8-character code for this number."""
        self.server.refused_phones.add(phone)

    # -- the script: the server and the network

    def paired(self, store: str, phone: str = "4915112345678", push_name: str = "Fake") -> str:
        """Make `store` hold a paired device without a pairing; return `store`."""
        FakeStore(store).write(Identity.of(phone, push_name))
        return store

    def emit(self, store: str, observation: Observation) -> None:
        """Let this happen to the running client of `store`."""
        with self.server.lock:  # a start that is not quite over
            client = self.server.clients[store]
        client.observe(observation)

    def drop(self, store: str, reconnect: bool = True) -> None:
        """Cut the connection; the client comes back at once unless told otherwise."""
        client = self.server.clients[store]
        client.observe(Observation(Kind.DISCONNECTED))
        if reconnect:
            self.reconnect(store)

    def reconnect(self, store: str) -> None:
        """Let the client's own reconnect succeed, or a stalled log-in go through."""
        with self.server.lock:
            self.server.stalled.discard(store)
            self.server.clients[store].login()

    def refuse(self, store: str, code: int, times: int = -1) -> None:
        """Refuse log-ins of `store` with this code, `times` times (-1: until told otherwise; 0: no more)."""
        self.server.refusals[store] = (code, times)

    def replace(self, store: str) -> None:
        """Let another client use the same keys."""
        self.emit(store, Observation(Kind.REPLACED, 440))

    def stall(self, store: str) -> None:
        """Let log-ins hang: started, but never connected (until `reconnect`)."""
        self.server.stalled.add(store)

    def silence(self, store: str, silent_for: timedelta = timedelta(minutes=1)) -> None:
        """Stop answering this store: probes fail."""
        self.server.deaf.add(store)
        self.server.clients[store].silence = silent_for

    def answer(self, store: str) -> None:
        """Answer again."""
        self.server.deaf.discard(store)
        self.server.clients[store].silence = timedelta()

    def break_network(self, reason: str = "network_unreachable") -> None:
        """Let every new connection fail; "" mends it."""
        self.server.network_error = reason

    def hold_stop(self, store: str) -> threading.Event:
        """Let `stop` of this store's client block until the returned event is set."""
        return self.server.stop_gates.setdefault(store, threading.Event())

    # -- the script: conversations, by phone (digits)

    @property
    def handed(self) -> list[Handed]:
        """Return the messages handed to the server, in order."""
        return self.server.post.handed

    def fail_sends(self, phone: str, *failures: Failure) -> None:
        """Answer the next sends of this phone with these. A message that ends Unknown arrives all the same."""
        self.server.post.failures.setdefault(phone, []).extend(failures)

    def hold_sends(self, phone: str) -> threading.Event:
        """Let sends of this phone block until the returned event is set."""
        return self.server.post.gates.setdefault(phone, threading.Event())

    def absent(self, phone: str) -> None:
        """Let this number not be on WhatsApp."""
        self.server.post.absent.add(phone)

    def make_group(self, number: str, name: str, phones: list[str], hidden: bool = False) -> str:
        """Make a group of these phones, the first its owner; return its address. `hidden`: addressed by LID."""
        people = [Person(phone, Identity.of(phone, "").lid) for phone in phones]
        members = tuple(Member(person, person is people[0]) for person in people)
        address = f"{number}@{GROUPS}"
        if hidden:
            self.server.post.hidden.add(address)
        self.server.post.groups[address] = Group(address, name, "", people[0], None, members)
        return address

    def set_picture(self, phone: str, url: str) -> None:
        """Give somebody a profile picture."""
        self.server.post.pictures[f"{phone}@{USERS}"] = Picture("1", url)
