"""Kinds of message, and what each carries in `content`: pure."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a message is."""

    TEXT = "text"  # text, mentions [digits], preview (bool)
    IMAGE = "image"  # caption
    VIDEO = "video"  # caption
    AUDIO = "audio"  # (nothing)
    VOICE = "voice"  # (nothing)
    DOCUMENT = "document"  # filename, caption
    STICKER = "sticker"  # (nothing)
    LOCATION = "location"  # latitude, longitude, name, address
    CONTACT = "contact"  # name, phones [digits]
    POLL = "poll"  # question, options [text], selectable (0 is any number)
    REACTION = "reaction"  # emoji ("" takes it back)
    EDIT = "edit"  # text
    REVOKE = "revoke"  # (nothing)
    UNKNOWN = "unknown"  # inbound only: a kind this version does not read; type


K = Kind

#: They carry a file.
MEDIA = frozenset({K.IMAGE, K.VIDEO, K.AUDIO, K.VOICE, K.DOCUMENT, K.STICKER})
#: They are about an earlier message, the `target`; a message of another kind with a target is a reply to it.
ABOUT = frozenset({K.REACTION, K.EDIT, K.REVOKE})

#: Longest text, and longest caption, in characters.
TEXT_MAX, CAPTION_MAX = 65_536, 4_096

#: Kind -> prefixes of the MIME types it may carry.
TYPES: dict[Kind, tuple[str, ...]] = {
    K.IMAGE: ("image/jpeg", "image/png"),
    K.VIDEO: ("video/mp4", "video/3gpp"),
    K.AUDIO: ("audio/",),
    K.VOICE: ("audio/ogg",),
    K.STICKER: ("image/webp",),
    K.DOCUMENT: ("",),
}


def text_of(kind: str, content: dict[str, object]) -> str:
    """Return the words of a message, for search and lists; "" when it has none."""
    for field in ("text", "caption", "question", "name", "filename", "emoji"):
        if value := content.get(field):
            return str(value)
    return ""
