"""Rows into contents, to be sent, and contents that arrived into what rows hold."""

from __future__ import annotations

from typing import Any

from messaging.kinds import MEDIA, Kind
from messaging.models import Media as File
from messaging.models import Message
from sessions_app.whatsapp.client import NotSent
from sessions_app.whatsapp.contents import (
    ContactCard,
    Content,
    ContentKind,
    Edit,
    Location,
    Media,
    Other,
    Poll,
    Preview,
    Reaction,
    Reference,
    Revoke,
    Text,
)
from sessions_app.whatsapp.inbound import USERS


def content_of(row: Message, preview: Preview | None = None) -> Content:
    """Return what a queued row says. Raises NotSent when it cannot be said (any more)."""
    kind, fields = Kind(row.kind), row.content
    if kind in MEDIA:
        return _file(row, ContentKind(kind.value))
    if kind in (Kind.REACTION, Kind.EDIT, Kind.REVOKE):
        target = _target(row)
        if kind is Kind.REACTION:
            return Reaction(target, fields.get("emoji", ""))
        return Revoke(target) if kind is Kind.REVOKE else Edit(target, fields.get("text", ""), _mentions(row))
    reply = _reply(row)
    match kind:
        case Kind.TEXT:
            return Text(fields.get("text", ""), _mentions(row), reply, preview)
        case Kind.LOCATION:
            return Location(float(fields["latitude"]), float(fields["longitude"]), fields.get("name", ""),
                            fields.get("address", ""), reply)  # fmt: skip
        case Kind.CONTACT:
            return ContactCard(fields.get("name", ""), tuple(fields.get("phones", ())), "", reply)
        case Kind.POLL:
            return Poll(fields["question"], tuple(fields["options"]), int(fields.get("selectable", 1)), reply)
        case _:
            raise NotSent("unsupported", f"A message of the kind “{kind}” cannot be sent.")


def fields_of(content: Content) -> tuple[Kind, dict[str, Any], Reference | None]:
    """Return the kind and the fields a row holds of what arrived, and the message it is about or replies to."""
    reply = getattr(content, "reply_to", None)
    match content:
        case Text():
            return Kind.TEXT, _filled(text=content.text, mentions=_digits(content.mentions)), reply
        case Media():
            named = _filled(caption=content.caption, filename=content.filename, seconds=content.seconds,
                            mentions=_digits(content.mentions))  # fmt: skip
            return Kind(content.kind.value), named, reply
        case Location():
            point = {"latitude": content.latitude, "longitude": content.longitude}
            return Kind.LOCATION, point | _filled(name=content.name, address=content.address), reply
        case ContactCard():
            return Kind.CONTACT, {"name": content.name, "phones": list(content.phones)}, reply
        case Poll():
            return Kind.POLL, {"question": content.question, "options": list(content.options),
                               "selectable": content.choices}, reply  # fmt: skip
        case Reaction():
            return Kind.REACTION, {"emoji": content.emoji}, content.target
        case Edit():
            return Kind.EDIT, {"text": content.text} | _filled(mentions=_digits(content.mentions)), content.target
        case Revoke():
            return Kind.REVOKE, {}, content.target
        case Other():
            return Kind.UNKNOWN, {"type": content.name}, None


def _file(row: Message, kind: ContentKind) -> Media:
    file: File | None = row.media
    try:
        data = file.read() if file is not None else b""
    except OSError:
        data = b""
    if file is None or not data:
        raise NotSent("media_gone", "The file of this message is not there any more.")
    fields = row.content
    return Media(kind, file.mime, data, fields.get("caption", ""), fields.get("filename", "") or file.name,
                 int(fields.get("seconds", 0)), len(data), _mentions(row), _reply(row))  # fmt: skip


def _target(row: Message) -> Reference:
    target = row.target
    if target is None or not target.whatsapp_id:
        raise NotSent("target_not_sent", "The message it is about was never sent.")
    return Reference(target.whatsapp_id, "" if target.is_out else target.sender_jid or row.chat.jid)


def _reply(row: Message) -> Reference | None:
    """Return the message this one replies to. A quotation names its writer, also when that is this account."""
    if row.target is None:
        return None
    target = _target(row)
    writer = target.sender or f"{row.account.phone}@{USERS}"
    return Reference(target.id, writer, row.target.text)


def _mentions(row: Message) -> tuple[str, ...]:
    return tuple(f"{digits}@{USERS}" for digits in row.content.get("mentions", ()))


def _digits(addresses: tuple[str, ...]) -> list[str]:
    return [address.partition("@")[0].partition(":")[0] for address in addresses]


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
