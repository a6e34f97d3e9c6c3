"""Stores what arrived: messages, edits, revokes, reactions, and receipts for ours. In the caller's transaction."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q

from accounts.lookup import lookup_all, lookup_any
from accounts.models import Account
from messaging.courier.letters import fields_of
from messaging.models import Chat, Direction, MediaState, Message, Receipt
from messaging.models import Media as File
from messaging.states import MessageState
from sessions_app.whatsapp import inbound
from sessions_app.whatsapp.contents import Media
from sessions_app.whatsapp.inbound import Person, ReceiptKind

_log = logging.getLogger(__name__)

#: What a File row's address begins with when WhatsApp has the file; the rest is a Media's source.
WHATSAPP = "whatsapp:"
#: Ids the library gives begin so; a phone's own do not. Only such a one can be an uncertain message of ours.
_OURS = "3EB0"
#: By how much WhatsApp's clock may be behind ours.
_SKEW = timedelta(seconds=5)
_DELIVERED = (ReceiptKind.DELIVERED, ReceiptKind.READ, ReceiptKind.PLAYED)


@dataclass
class Known:
    """What the database knows of some arrivals: one look for all of them, kept up to date as they are stored."""

    accounts: set[int]
    #: (account, WhatsApp's id) -> the messages with that id; one in each chat at most.
    messages: dict[tuple[int, str], list[Message]]
    chats: list[Chat]

    @classmethod
    def of(cls, arrived: Sequence[tuple[int, inbound.Inbound]]) -> Known:
        """Look."""
        ids = {identity for _account, each in arrived
               for identity in (each.ids if isinstance(each, inbound.Receipt) else (each.id,))}  # fmt: skip
        accounts = {each.pk for each in lookup_all(Account, id=list({pk for pk, _each in arrived}))}
        rows = lookup_all(Message, account_id=list(accounts), whatsapp_id=list(ids))
        messages = [each for _account, each in arrived if isinstance(each, inbound.Message)]
        known = cls(accounts, {}, _chats(list(accounts), messages, {row.chat_id for row in rows}))
        chats = {chat.pk: chat for chat in known.chats}
        for row in rows:
            row.chat = chats[row.chat_id]
            known.note(row)
        return known

    def note(self, row: Message) -> None:
        """Add one."""
        self.messages.setdefault((row.account_id, str(row.whatsapp_id)), []).append(row)

    def with_id(self, account_id: int, identity: str) -> list[Message]:
        """Return the messages with an id."""
        return self.messages.get((account_id, identity), [])


def store_message(account_id: int, message: inbound.Message, known: Known) -> Message | None:
    """Return the new row, None when it was stored before. Raises LookupError when the account is gone."""
    if account_id not in known.accounts:
        raise LookupError(f"Account {account_id} is gone")  # SQLite would notice only when the whole batch is committed
    peer, sender, at = message.peer, message.sender, message.at
    name = "" if message.from_me or message.chat.endswith("@g.us") else message.push_name
    chat = Chat.objects.of(account_id, message.chat, number=peer.phone, lid=_digits(peer), name=name, among=known.chats)
    if chat not in known.chats:
        known.chats.append(chat)
    if any(row.chat_id == chat.pk for row in known.with_id(account_id, message.id)):
        return None
    kind, fields, about = fields_of(message.content)
    target = None
    if about is not None:
        target = Message.objects.filter(chat=chat, whatsapp_id=about.id).first()
        if target is None:
            fields["target_whatsapp_id"] = about.id
    file = _wanted(message.content) if isinstance(message.content, Media) else None
    row = Message.receive(
        chat, message.id, kind, fields, at, media=file, target=target, sender_jid=message.written_as or sender.address,
        sender_phone=sender.phone, sender_lid=_digits(sender), sender_name=message.push_name, from_me=message.from_me,
    )  # fmt: skip
    known.note(row)
    return row


def store_receipt(account_id: int, receipt: inbound.Receipt, known: Known) -> tuple[str, ...]:
    """Take over what a receipt says; return the ids nobody knows here."""
    if receipt.kind not in _DELIVERED:
        return ()
    mine = {identity: known.with_id(account_id, identity) for identity in receipt.ids}
    _apply(receipt, [row for found in mine.values() for row in found])
    return () if receipt.by_me else tuple(identity for identity, found in mine.items() if not found)


def resolve(account_id: int, receipt: inbound.Receipt, ids: tuple[str, ...]) -> int:
    """Take receipts for ids we never heard of as the outcome of uncertain messages; return how many it resolved.

    Only where no other can be meant: one id, in that chat one message without an id, handed over before the receipt.
    One that an earlier host left on its way counts as well: it is about to be called uncertain.
    """
    if len(ids) != 1 or not ids[0].startswith(_OURS):
        return 0
    if receipt.chat.endswith("@g.us"):
        chats = Chat.objects.filter(account_id=account_id, jid=receipt.chat)
    else:
        who = Q(jid=receipt.chat)
        who |= Q(phone=receipt.peer.phone) if receipt.peer.phone else Q()
        who |= Q(lid=_digits(receipt.peer)) if receipt.peer.lid else Q()
        chats = Chat.objects.filter(who, account_id=account_id)
    rows = Message.objects.filter(
        chat__in=chats, state__in=(MessageState.UNCERTAIN, MessageState.SENDING), whatsapp_id=None,
        claimed_at__lte=receipt.at + _SKEW,
    )  # fmt: skip
    candidates = list(rows.select_related("account", "chat", "media")[:2])
    if len(candidates) != 1:
        return 0
    row = candidates[0]
    _log.info("Message %d arrived after all: a receipt came for it", row.pk)
    return int(_confirm(row, receipt, ids[0]))


def _apply(receipt: inbound.Receipt, rows: list[Message]) -> None:
    for row in rows:
        if row.direction == Direction.IN:
            if receipt.by_me and receipt.kind is not ReceiptKind.DELIVERED:  # read on the phone
                Message.objects.filter(pk=row.pk, read_at=None).update(read_at=receipt.at)
        elif not receipt.by_me:
            if row.chat.is_group:
                _note_member(row, receipt)
            _confirm(row, receipt)


def _confirm(row: Message, receipt: inbound.Receipt, whatsapp_id: str = "") -> bool:
    if receipt.kind is ReceiptKind.DELIVERED:
        return row.delivered(receipt.at, whatsapp_id)
    return row.read(receipt.at, whatsapp_id)


def _note_member(row: Message, receipt: inbound.Receipt) -> None:
    noted, _new = Receipt.objects.get_or_create(message=row, participant=receipt.sender.address)
    noted.delivered_at = noted.delivered_at or receipt.at
    if receipt.kind is not ReceiptKind.DELIVERED:
        noted.read_at = noted.read_at or receipt.at
    noted.save(update_fields=["delivered_at", "read_at"])


def _wanted(media: Media) -> File:
    source = WHATSAPP + base64.b64encode(media.source).decode()
    fits = len(source) <= File._meta.get_field("url").max_length  # type: ignore[operator]
    return File.objects.create(
        state=MediaState.WANTED if fits else MediaState.FAILED, mime=media.mime[:120], size=media.size,
        name=media.filename[:200], kind=media.kind, url=source if fits else "",
    )  # fmt: skip


def _chats(accounts: list[int], messages: Sequence[inbound.Message], keys_of_others: set[int]) -> list[Chat]:
    """Return the chats these messages may belong to, and others; more than that, if anything."""
    keys: dict[str, set[str]] = {
        "jid": {message.chat for message in messages},
        "phone": {message.peer.phone for message in messages if message.peer.phone},
        "lid": {_digits(message.peer) for message in messages if message.peer.lid},
    }
    wanted: list[dict[str, list[Any]]] = [
        {"account_id": accounts, column: list(values)} for column, values in keys.items()
    ]
    return lookup_any(Chat, *wanted, {"id": list(keys_of_others)})


def _digits(person: Person) -> str:
    return person.lid.partition("@")[0]
