"""What a message can say: our own frozen forms, the same for sending and for what arrives.

`pack` and `unpack` turn them into plain JSON and back; the bytes of media travel beside it. How they look on the wire
is known to `outgoing.py` and `incoming.py` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class ContentKind(StrEnum):
    """What kind of message it is."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"  # a recording, played in the chat
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    POLL = "poll"
    REACTION = "reaction"
    EDIT = "edit"
    REVOKE = "revoke"
    OTHER = "other"  # arrived, and is none of these


MEDIA = frozenset({ContentKind.IMAGE, ContentKind.VIDEO, ContentKind.AUDIO, ContentKind.VOICE, ContentKind.DOCUMENT,
                   ContentKind.STICKER})  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Another message: the one replied to, reacted to, edited or revoked."""

    id: str
    sender: str = ""  # address of who wrote it; "" is this account
    text: str = ""  # what a reply shows of it


@dataclass(frozen=True)
class Preview:
    """A link preview. Made by the caller: the library would fetch any address by itself, and must not."""

    url: str
    title: str
    description: str = ""


@dataclass(frozen=True)
class Text:
    """Plain text. `mentions` are addresses; the text names them as "@" and their user part."""

    text: str
    mentions: tuple[str, ...] = ()
    reply_to: Reference | None = None
    preview: Preview | None = None

    kind = ContentKind.TEXT


@dataclass(frozen=True)
class Media:
    """A file of one of the kinds in MEDIA. To send it `data` is needed; what arrived has `source` to download it by."""

    kind: ContentKind
    mime: str
    data: bytes = field(default=b"", repr=False)
    caption: str = ""
    filename: str = ""
    seconds: int = 0
    size: int = 0
    mentions: tuple[str, ...] = ()
    reply_to: Reference | None = None
    source: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Location:
    """A point on the map, in degrees."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    reply_to: Reference | None = None

    kind = ContentKind.LOCATION


@dataclass(frozen=True)
class ContactCard:
    """A person's card. `vcard` wins over the numbers where both are given."""

    name: str
    phones: tuple[str, ...] = ()  # digits
    vcard: str = ""
    reply_to: Reference | None = None

    kind = ContentKind.CONTACT


@dataclass(frozen=True)
class Poll:
    """A question with 2 to 12 options, of which `choices` may be chosen (0: any number)."""

    question: str
    options: tuple[str, ...]
    choices: int = 1
    reply_to: Reference | None = None

    kind = ContentKind.POLL


@dataclass(frozen=True)
class Reaction:
    """An emoji on another message; "" takes it back."""

    target: Reference
    emoji: str

    kind = ContentKind.REACTION


@dataclass(frozen=True)
class Edit:
    """New text for a message of ours, at most 20 minutes old (WhatsApp's rule)."""

    target: Reference
    text: str
    mentions: tuple[str, ...] = ()

    kind = ContentKind.EDIT


@dataclass(frozen=True)
class Revoke:
    """Take a message back for everyone."""

    target: Reference

    kind = ContentKind.REVOKE


@dataclass(frozen=True)
class Other:
    """Something that arrived and has no form of ours; `name` is WhatsApp's for it."""

    name: str

    kind = ContentKind.OTHER


Content = Text | Media | Location | ContactCard | Poll | Reaction | Edit | Revoke | Other

_FORMS: dict[ContentKind, type[Any]] = {
    ContentKind.TEXT: Text, ContentKind.LOCATION: Location, ContentKind.CONTACT: ContactCard, ContentKind.POLL: Poll,
    ContentKind.REACTION: Reaction, ContentKind.EDIT: Edit, ContentKind.REVOKE: Revoke, ContentKind.OTHER: Other,
    **dict.fromkeys(MEDIA, Media),
}  # fmt: skip
_BYTES = ("data", "source")


def pack(content: Content) -> dict[str, Any]:
    """Return the fields as JSON can hold them, without the kind, the bytes, and what is as if it were not given."""
    values = asdict(content)
    return {
        each.name: _plain(values[each.name]) for each in fields(content)
        if each.name not in ("kind", *_BYTES) and values[each.name] != each.default
    }  # fmt: skip


def unpack(kind: str, values: Mapping[str, Any], data: bytes = b"", source: bytes = b"") -> Content:
    """Return the content `pack` was given. Raises ValueError, with a sentence, when the fields do not fit the kind."""
    try:
        which = ContentKind(kind)
        form = _FORMS[which]
        known = {each.name for each in fields(form)}
        if unknown := set(values) - known:
            raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
        arguments = {name: _rich(name, value) for name, value in values.items()}
        if form is Media:
            arguments.setdefault("mime", "application/octet-stream")
            arguments |= {"kind": which, "data": data, "source": source}
        content: Content = form(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"This is not the content of a {kind} message: {error}.") from None
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):
        return {name: inner for name, inner in value.items() if inner}
    return value


def _rich(name: str, value: Any) -> Any:
    if name in ("target", "reply_to"):
        return Reference(**value)
    if name == "preview":
        return Preview(**value)
    return tuple(value) if isinstance(value, list) else value
