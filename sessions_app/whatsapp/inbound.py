"""What arrives: messages and receipts in our own terms, and their form in the journal.

Addresses are WhatsApp's: DIGITS@s.whatsapp.net for a number, DIGITS@lid for one that hides it, DIGITS@g.us for a group.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sessions_app.whatsapp.contents import Content, Media, pack, unpack

USERS, HIDDEN_USERS, GROUPS = "s.whatsapp.net", "lid", "g.us"


class ReceiptKind(StrEnum):
    """What a receipt says about our messages."""

    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    RETRY = "retry"  # could not be decrypted there, the library sends it again by itself
    FAILED = "failed"  # the other side, or WhatsApp, could not take it


@dataclass(frozen=True)
class Person:
    """Somebody, by number (digits) and by hidden address; one of the two may be unknown ("")."""

    phone: str = ""
    lid: str = ""  # with "@lid"

    @property
    def address(self) -> str:
        """Return where to write to: the number where it is known."""
        return f"{self.phone}@{USERS}" if self.phone else self.lid


@dataclass(frozen=True)
class Message:
    """A message that arrived, or that the account wrote on another of its devices (`from_me`)."""

    id: str
    chat: str  # address of the chat; for one person that of `peer`
    peer: Person  # with whom; nobody in a group
    sender: Person
    from_me: bool
    at: datetime
    push_name: str
    content: Content
    #: By which of their addresses the sender wrote: in a group, what replies and reactions must name them by.
    written_as: str = ""


@dataclass(frozen=True)
class Receipt:
    """Messages of ours that reached somebody, or were read. `by_me`: by the account itself, on another device."""

    kind: ReceiptKind
    ids: tuple[str, ...]
    chat: str
    peer: Person
    sender: Person
    by_me: bool
    at: datetime


Inbound = Message | Receipt


def dump(inbound: Inbound) -> bytes:
    """Return the form `load` reads: one line of JSON."""
    values: dict[str, Any] = {
        "chat": inbound.chat, "peer": [inbound.peer.phone, inbound.peer.lid],
        "sender": [inbound.sender.phone, inbound.sender.lid], "at": inbound.at.isoformat(),
    }  # fmt: skip
    if isinstance(inbound, Receipt):
        values |= {"receipt": inbound.kind, "ids": inbound.ids, "by_me": inbound.by_me}
    else:
        content = inbound.content
        source = content.source if isinstance(content, Media) else b""
        values |= {
            "id": inbound.id, "from_me": inbound.from_me, "push_name": inbound.push_name, "kind": content.kind,
            "content": pack(content), "source": base64.b64encode(source).decode(), "written_as": inbound.written_as,
        }  # fmt: skip
    return json.dumps(values).encode()


def load(line: bytes) -> Inbound:
    """Return what `dump` was given. Raises ValueError or KeyError for anything else."""
    values = json.loads(line)
    peer, sender, at = Person(*values["peer"]), Person(*values["sender"]), datetime.fromisoformat(values["at"])
    if "receipt" in values:
        kind = ReceiptKind(values["receipt"])
        return Receipt(kind, tuple(values["ids"]), values["chat"], peer, sender, values["by_me"], at)
    content = unpack(values["kind"], values["content"], source=base64.b64decode(values["source"]))
    return Message(values["id"], values["chat"], peer, sender, values["from_me"], at, values["push_name"], content,
                   values["written_as"])  # fmt: skip
