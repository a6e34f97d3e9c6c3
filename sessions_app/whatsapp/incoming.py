"""What the library's message and receipt events say, in our own terms. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sessions_app.whatsapp.contents import (
    ContactCard,
    Content,
    ContentKind,
    Edit,
    Location,
    Media,
    Other,
    Poll,
    Reaction,
    Reference,
    Revoke,
    Text,
)
from sessions_app.whatsapp.inbound import GROUPS, HIDDEN_USERS, USERS, Message, Person, Receipt, ReceiptKind

#: Numbers of the library's events.
MESSAGE, RECEIPT, UNDECRYPTABLE = 17, 18, 44

#: The library's receipt types -> ours, and whether our own account made it on another device. The rest means nothing.
_RECEIPTS = {
    1: (ReceiptKind.DELIVERED, False), 3: (ReceiptKind.RETRY, False), 4: (ReceiptKind.READ, False),
    5: (ReceiptKind.READ, True), 6: (ReceiptKind.PLAYED, False), 7: (ReceiptKind.PLAYED, True),
    8: (ReceiptKind.FAILED, False), 9: (ReceiptKind.DELIVERED, False),
}  # fmt: skip; 9 is delivered to a device nobody looks at
#: Wrappers whose inner message is what was said.
_WRAPPERS = ("deviceSentMessage", "editedMessage", "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2",
             "viewOnceMessageV2Extension", "documentWithCaptionMessage", "lottieStickerMessage")  # fmt: skip
_POLLS = ("pollCreationMessage", "pollCreationMessageV2", "pollCreationMessageV3")
#: Parts that come beside what is said, or say nothing to a person.
_SILENT = frozenset({"messageContextInfo", "senderKeyDistributionMessage"})
_REVOKE, _EDIT = 0, 14
_LISTS = "broadcast"
_WAID = re.compile(r"waid=(\d+)")


def message(event: Any) -> Message | None:
    """Return the message, or None for what only devices tell each other."""
    info, from_me = event.Info, bool(event.Info.MessageSource.IsFromMe)
    if not _is_chat(info.MessageSource.Chat):
        return None
    chat, peer, sender = _who(info.MessageSource)
    content = said(event.Raw if event.HasField("Raw") else event.Message, _View(sender, peer, from_me))
    if content is None:
        return None
    writer = info.MessageSource.Sender
    return Message(
        str(info.ID), chat, peer, sender, from_me, moment(info.Timestamp), str(info.Pushname), content,
        f"{writer.User}@{writer.Server}",
    )  # fmt: skip


def receipt(event: Any) -> Receipt | None:
    """Return the receipt, or None when its kind means nothing to us."""
    known = _RECEIPTS.get(event.Type)
    if known is None or not event.MessageIDs or not _is_chat(event.MessageSource.Chat):
        return None
    chat, peer, sender = _who(event.MessageSource)
    kind, by_me = known
    by_me = by_me or bool(event.MessageSource.IsFromMe)
    return Receipt(kind, tuple(event.MessageIDs), chat, peer, sender, by_me, moment(event.Timestamp))


def moment(number: int) -> datetime:
    """Return a time the library gave in seconds (receipts) or milliseconds (messages)."""
    return datetime.fromtimestamp(number / 1000 if number > 100_000_000_000 else number, UTC)


def person(*addresses: Any) -> Person:
    """Return who these addresses (the library's JIDs) belong to together."""
    phone = next((a.User for a in addresses if a.Server == USERS and a.User), "")
    lid = next((f"{a.User}@{HIDDEN_USERS}" for a in addresses if a.Server == HIDDEN_USERS and a.User), "")
    return Person(phone, lid)


def _is_chat(jid: Any) -> bool:
    """Return whether this is a conversation; status updates, channels and the like are none."""
    return jid.Server in (USERS, HIDDEN_USERS, GROUPS) or (jid.Server == _LISTS and jid.User != "status")


def _who(source: Any) -> tuple[str, Person, Person]:
    """Return the chat's address, the person it is with (nobody in a group), and who wrote."""
    chat, sender = source.Chat, person(source.Sender, source.SenderAlt)
    if chat.Server == _LISTS:  # somebody wrote to many at once: here it is a message of theirs
        return sender.address, sender, sender
    if chat.Server == GROUPS:
        return f"{chat.User}@{chat.Server}", Person(), sender
    peer = person(chat, source.RecipientAlt) if source.IsFromMe else person(chat, source.Sender, source.SenderAlt)
    return peer.address, peer, sender


@dataclass(frozen=True)
class _View:
    """Who wrote and to whom: what a message points at is told from the writer's side."""

    sender: Person
    peer: Person
    from_me: bool

    def reference(self, key: Any) -> Reference:
        """Return what a key points at, told from our side ("" is this account)."""
        mine = bool(key.fromMe) == self.from_me  # of two people, one wrote it
        if key.participant and not key.fromMe:
            return Reference(str(key.ID), str(key.participant))
        return Reference(str(key.ID), "" if mine else (self.peer if self.from_me else self.sender).address)


def said(body: Any, view: _View) -> Content | None:
    """Return what a protobuf Message says, or None when it says nothing to a person."""
    for wrapper in _WRAPPERS:
        if body.HasField(wrapper):
            return said(getattr(body, wrapper).message, view)
    if body.HasField("protocolMessage"):
        return _protocol(body.protocolMessage, view)
    if body.HasField("reactionMessage"):
        return Reaction(view.reference(body.reactionMessage.key), str(body.reactionMessage.text))
    return _plain(body)


def _plain(body: Any) -> Content | None:
    """Return what a message says that points at no other."""
    for name, read in _READERS:
        if body.HasField(name):
            return read(getattr(body, name))
    for name in _POLLS:
        if body.HasField(name):
            return _poll(getattr(body, name))
    for name, kind in _FILES.items():
        if body.HasField(name):
            return _media(body, getattr(body, name), kind)
    rest = [field.name for field, _value in body.ListFields() if field.name not in _SILENT]
    return Other(rest[0]) if rest else None


def _protocol(part: Any, view: _View) -> Content | None:
    """Return an edit or a revocation; whatever else devices tell each other says nothing to a person."""
    if part.HasField("key") and part.type == _EDIT:
        new = _plain(part.editedMessage)
        mentions = new.mentions if isinstance(new, Text | Media) else ()
        return Edit(view.reference(part.key), _words(new), mentions)
    if part.HasField("key") and part.type == _REVOKE:
        return Revoke(view.reference(part.key))
    return None


def _words(content: Content | None) -> str:
    return content.text if isinstance(content, Text) else str(getattr(content, "caption", ""))


def _extended(part: Any) -> Content:
    return Text(str(part.text), _mentions(part), _reply(part))


def _location(part: Any) -> Content:
    return Location(part.degreesLatitude, part.degreesLongitude, str(part.name), str(part.address), _reply(part))


def _contact(part: Any) -> Content:
    vcard = str(part.vcard)
    return ContactCard(str(part.displayName), tuple(_WAID.findall(vcard)), vcard, _reply(part))


def _poll(part: Any) -> Content:
    options = tuple(str(option.optionName) for option in part.options)
    return Poll(str(part.name), options, part.selectableOptionsCount, _reply(part))


def _media(body: Any, part: Any, kind: ContentKind) -> Content:
    if kind is ContentKind.AUDIO and part.PTT:
        kind = ContentKind.VOICE
    only = type(body)()
    only.CopyFrom(body)
    only.ClearField("messageContextInfo")
    only.ClearField("senderKeyDistributionMessage")
    for field, inner in only.ListFields():  # keep what is needed to fetch the file, and no address the sender chose
        for name in ("URL", "JPEGThumbnail", "contextInfo"):
            if field.message_type is not None and name in field.message_type.fields_by_name:
                inner.ClearField(name)
    return Media(
        kind, str(part.mimetype), caption=str(getattr(part, "caption", "")),
        filename=str(getattr(part, "fileName", "") or getattr(part, "title", "")),
        seconds=int(getattr(part, "seconds", 0)), size=int(part.fileLength), mentions=_mentions(part),
        reply_to=_reply(part), source=bytes(only.SerializeToString()),
    )  # fmt: skip


def _mentions(part: Any) -> tuple[str, ...]:
    return tuple(map(str, part.contextInfo.mentionedJID))


def _reply(part: Any) -> Reference | None:
    context = part.contextInfo
    if not context.stanzaID:
        return None
    return Reference(str(context.stanzaID), str(context.participant), _words(_plain(context.quotedMessage)))


_FILES = {
    "imageMessage": ContentKind.IMAGE, "videoMessage": ContentKind.VIDEO, "audioMessage": ContentKind.AUDIO,
    "documentMessage": ContentKind.DOCUMENT, "stickerMessage": ContentKind.STICKER, "ptvMessage": ContentKind.VIDEO,
}  # fmt: skip
_READERS = (
    ("extendedTextMessage", _extended),
    ("locationMessage", _location),
    ("contactMessage", _contact),
    ("conversation", lambda text: Text(str(text))),
)
