"""The fake's conversation: clients of one FakeServer write to each other, as the test's script allows."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

from sessions_app.whatsapp.client import Contact, Group, NotSent, Picture, Sent, Typing, Unknown, WhatsAppError
from sessions_app.whatsapp.contents import Content, Edit, Media, Reaction, Reference, Revoke
from sessions_app.whatsapp.fake_store import Identity
from sessions_app.whatsapp.inbound import GROUPS, USERS, Inbound, Message, Person, Receipt, ReceiptKind

#: What a send is answered with.
Failure = NotSent | Unknown


class Receiver(Protocol):
    """A connected client, as the post sees it."""

    def deliver(self, inbound: Inbound) -> None:
        """Take what arrived."""


@dataclass
class Handed:
    """One message as it was handed to the server."""

    phone: str
    chat: str
    content: Content
    id: str


@dataclass
class Post:
    """The server's side of all conversations. `failures`: phone -> what its next sends are answered with, in order."""

    online: dict[str, Receiver] = field(default_factory=dict)
    waiting: dict[str, list[Inbound]] = field(default_factory=dict)
    handed: list[Handed] = field(default_factory=list)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    groups: dict[str, Group] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # groups whose members are addressed by LID
    pictures: dict[str, Picture] = field(default_factory=dict)
    files: dict[bytes, bytes] = field(default_factory=dict)
    typing: list[tuple[str, str, Typing]] = field(default_factory=list)
    ids: count[int] = field(default_factory=lambda: count(1))

    def came(self, phone: str, client: Receiver) -> None:
        """Hand over what waited."""
        self.online[phone] = client
        for inbound in self.waiting.pop(phone, []):
            client.deliver(inbound)

    def went(self, phone: str, client: Receiver) -> None:
        """Keep from now on what arrives."""
        if self.online.get(phone) is client:
            del self.online[phone]

    def send(self, me: Identity, chat: str, content: Content) -> Sent:
        """Take a message, and pass it on."""
        failures = self.failures.get(me.phone, [])
        failure = failures.pop(0) if failures else None
        if isinstance(failure, NotSent):
            raise failure
        people = self._people(me, chat)
        now, identity = datetime.now(UTC), f"3EB0FA4E{next(self.ids):012d}"
        self.handed.append(Handed(me.phone, chat, content, identity))
        sender = _person(me)
        for phone in people:
            peer = Person() if chat.endswith(GROUPS) else sender
            address = chat if chat.endswith(GROUPS) else sender.address
            self._post(phone, Message(identity, address, peer, sender, False, now, me.push_name,
                                      self._seen_by(content, me, phone),
                                      sender.lid if chat in self.hidden else sender.address))  # fmt: skip
        if failure is not None:
            raise failure
        return Sent(identity, now)

    def receipt(self, reader: Identity, to: str, chat: str, ids: Sequence[str], kind: ReceiptKind) -> None:
        """Tell the sender."""
        who = _person(reader)
        group = chat.endswith(GROUPS)
        self._post(to, Receipt(kind, tuple(ids), chat if group else who.address, Person() if group else who, who,
                               False, datetime.now(UTC)))  # fmt: skip

    def _people(self, me: Identity, chat: str) -> list[str]:
        user, _, server = chat.partition("@")
        if server == GROUPS:
            if chat not in self.groups:
                raise NotSent("group_unavailable", "WhatsApp did not say who is in the group.", retryable=True)
            return [m.person.phone for m in self.groups[chat].members if m.person.phone != me.phone]
        if not user.isdigit() or server != USERS:
            raise NotSent("bad_address", f"“{chat}” is not an address WhatsApp can deliver to.")
        if user in self.absent:
            raise NotSent("not_on_whatsapp", "This number is not on WhatsApp.")
        return [user]

    def _post(self, phone: str, inbound: Inbound) -> None:
        client = self.online.get(phone)
        if client is None:
            self.waiting.setdefault(phone, []).append(inbound)
        else:
            client.deliver(inbound)

    def _seen_by(self, content: Content, me: Identity, reader: str) -> Content:
        """Return the content as the other side gets it: files to be downloaded, references told from its side."""
        if isinstance(content, Media):
            source = hashlib.sha256(content.data).digest()
            self.files[source] = content.data
            return replace(content, data=b"", source=source, size=len(content.data))
        if isinstance(content, Reaction | Edit | Revoke):
            writer = content.target.sender.partition("@")[0] or me.phone
            sender = "" if writer == reader else f"{writer}@{USERS}"
            return replace(content, target=Reference(content.target.id, sender))
        return content


class FakeTalk:
    """The talking part of a fake client."""

    post: Post

    def identity(self) -> Identity | None:
        """Return who is connected, None while nobody is."""
        raise NotImplementedError

    def send(self, chat: str, content: Content) -> Sent:
        """Send, or fail as scripted; waits for a gate set by `FakeWhatsApp.hold_sends`."""
        me = self.identity()
        if me is None:
            raise NotSent("offline", "The account is not connected.", retryable=True)
        gate = self.post.gates.get(me.phone)
        if gate is not None:
            gate.wait(60)
        return self.post.send(me, chat, content)

    def lookup(self, phones: Sequence[str]) -> list[Contact]:
        """Everybody is on WhatsApp who was not made absent."""
        self._me()
        return [
            Contact(phone, Person(phone) if phone in self.post.absent else _person(Identity.of(phone, "")),
                    phone not in self.post.absent)
            for phone in phones
        ]  # fmt: skip

    def picture(self, address: str, preview: bool = False) -> Picture | None:
        """Return the picture that was set."""
        self._me()
        return self.post.pictures.get(address)

    def groups(self) -> list[Group]:
        """Return the groups made by the test with this phone in them."""
        me = self._me()
        return [g for g in self.post.groups.values() if any(m.person.phone == me.phone for m in g.members)]

    def group(self, address: str) -> Group:
        """Return one."""
        self._me()
        if address not in self.post.groups:
            raise WhatsAppError("WhatsApp did not answer the question.")
        return self.post.groups[address]

    def typing(self, chat: str, state: Typing) -> None:
        """Note it."""
        self.post.typing.append((self._me().phone, chat, state))

    def available(self, available: bool) -> None:
        """Nobody watches."""
        self._me()

    def mark_read(self, chat: str, sender: str, ids: Sequence[str]) -> None:
        """Tell the sender."""
        self.post.receipt(self._me(), Identity.phone_of(sender), chat, ids, ReceiptKind.READ)

    def download(self, source: bytes) -> bytes:
        """Return the file."""
        self._me()
        if source not in self.post.files:
            raise WhatsAppError("WhatsApp did not answer the question.")
        return self.post.files[source]

    def _me(self) -> Identity:
        me = self.identity()
        if me is None:
            raise WhatsAppError("The account is not connected.")
        return me


def _person(identity: Identity) -> Person:
    return Person(identity.phone, identity.lid)
