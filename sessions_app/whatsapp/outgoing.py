"""How our contents look on the wire: the library's protobuf messages, and what its errors mean. No I/O.

The classes come from the adapter, which alone may import the library.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from sessions_app.whatsapp.client import NotSent, Unknown
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

#: The library's number of the kind of file; it decides key derivation and where the file is put.
UPLOADS = {ContentKind.IMAGE: 0, ContentKind.STICKER: 0, ContentKind.VIDEO: 1, ContentKind.AUDIO: 2,
           ContentKind.VOICE: 2, ContentKind.DOCUMENT: 3}  # fmt: skip
_FIELDS = {ContentKind.IMAGE: "imageMessage", ContentKind.STICKER: "stickerMessage", ContentKind.VIDEO: "videoMessage",
           ContentKind.AUDIO: "audioMessage", ContentKind.VOICE: "audioMessage",
           ContentKind.DOCUMENT: "documentMessage"}  # fmt: skip
_REVOKE, _EDIT = 0, 14


def message(new: Callable[[], Any], chat: str, content: Content, upload: Any = None) -> Any:
    """Return the protobuf of a content; `new` makes an empty Message, `upload` is the library's UploadResponse."""
    out = new()
    if isinstance(content, Media):
        _media(out, content, upload)
    elif isinstance(content, Other):
        raise NotSent("unsupported", f"A message of the kind “{content.name}” cannot be sent.")
    else:
        _WRITERS[type(content)](out, chat, content)
    return out


def _text(out: Any, chat: str, content: Text) -> None:
    if not (content.mentions or content.reply_to or content.preview):
        out.conversation = content.text
        return
    extended = out.extendedTextMessage
    extended.text = content.text
    _context(extended, content.mentions, content.reply_to)
    if content.preview is not None:
        extended.matchedText, extended.title = content.preview.url, content.preview.title
        extended.description = content.preview.description


def _media(out: Any, content: Media, upload: Any) -> None:
    part = getattr(out, _FIELDS[content.kind])
    part.URL, part.directPath, part.mediaKey = upload.url, upload.DirectPath, upload.MediaKey
    part.fileEncSHA256, part.fileSHA256, part.fileLength = upload.FileEncSHA256, upload.FileSHA256, upload.FileLength
    part.mimetype, part.mediaKeyTimestamp = content.mime, int(time.time())
    if content.caption and content.kind in (ContentKind.IMAGE, ContentKind.VIDEO, ContentKind.DOCUMENT):
        part.caption = content.caption
    if content.kind is ContentKind.DOCUMENT:
        part.fileName = part.title = content.filename or "document"
    if content.kind in (ContentKind.AUDIO, ContentKind.VOICE):
        part.PTT = content.kind is ContentKind.VOICE
    if content.seconds and content.kind in (ContentKind.AUDIO, ContentKind.VOICE, ContentKind.VIDEO):
        part.seconds = content.seconds
    _context(part, content.mentions, content.reply_to)


def _location(out: Any, chat: str, content: Location) -> None:
    part = out.locationMessage
    part.degreesLatitude, part.degreesLongitude = content.latitude, content.longitude
    part.name, part.address = content.name, content.address
    _context(part, (), content.reply_to)


def _contact(out: Any, chat: str, content: ContactCard) -> None:
    part = out.contactMessage
    part.displayName, part.vcard = content.name, content.vcard or _vcard(content)
    _context(part, (), content.reply_to)


def _vcard(content: ContactCard) -> str:
    name = re.sub(r"([\\;,])", r"\\\1", " ".join(content.name.split()))
    lines = [f"TEL;type=CELL;type=VOICE;waid={digits}:+{digits}" for digits in content.phones]
    return "\n".join(["BEGIN:VCARD", "VERSION:3.0", f"N:;{name};;;", f"FN:{name}", *lines, "END:VCARD"])


def _poll(out: Any, chat: str, content: Poll) -> None:
    part = out.pollCreationMessage
    part.name, part.selectableOptionsCount = content.question, content.choices
    for option in content.options:
        part.options.add().optionName = option
    out.messageContextInfo.messageSecret = os.urandom(32)  # votes are encrypted with it
    _context(part, (), content.reply_to)


def _reaction(out: Any, chat: str, content: Reaction) -> None:
    part = out.reactionMessage
    _key(part.key, chat, content.target)
    part.text, part.senderTimestampMS = content.emoji, _now_ms()


def _edit(out: Any, chat: str, content: Edit) -> None:
    protocol = out.editedMessage.message.protocolMessage
    _key(protocol.key, chat, content.target)
    protocol.type, protocol.timestampMS = _EDIT, _now_ms()
    _text(protocol.editedMessage, chat, Text(content.text, content.mentions))


def _revoke(out: Any, chat: str, content: Revoke) -> None:
    protocol = out.protocolMessage
    _key(protocol.key, chat, content.target)
    protocol.type = _REVOKE


_WRITERS: dict[type[Any], Callable[[Any, str, Any], None]] = {
    Text: _text, Location: _location, ContactCard: _contact, Poll: _poll, Reaction: _reaction, Edit: _edit,
    Revoke: _revoke,
}  # fmt: skip


def _key(key: Any, chat: str, target: Reference) -> None:
    key.remoteJID, key.ID, key.fromMe = chat, target.id, not target.sender
    if target.sender and chat.endswith("@g.us"):
        key.participant = target.sender


def _context(part: Any, mentions: tuple[str, ...], reply_to: Reference | None) -> None:
    if mentions:
        part.contextInfo.mentionedJID.extend(mentions)
    if reply_to is not None:
        part.contextInfo.stanzaID, part.contextInfo.participant = reply_to.id, reply_to.sender
        part.contextInfo.quotedMessage.conversation = reply_to.text


def _now_ms() -> int:
    return int(time.time() * 1000)


# -- errors

_REFUSED = re.compile(r"server returned error (\d+)")

#: What the library says when a message certainly did not leave -> our code, whether to try again, a sentence. Only what
#: is listed here counts: anything else leaves the outcome unknown. An IQ (the questions before a send) is not the send.
_NOT_SENT: tuple[tuple[str, str, bool, str], ...] = (
    ("websocket not connected", "offline", True, "The account is not connected."),
    ("client is nil", "offline", True, "The account is not connected."),
    ("the store doesn't contain a device JID", "unpaired", False, "The account is not paired with a phone."),
    ("no LID found for", "not_on_whatsapp", False, "This number is not on WhatsApp."),
    ("can't send message to unknown server", "bad_address", False, "This is not an address WhatsApp can deliver to."),
    ("message recipient must be a user JID", "bad_address", False, "This is not an address WhatsApp can deliver to."),
    ("info query timed out", "no_answer", True, "WhatsApp did not answer in time, so the message was not handed over."),
    ("websocket disconnected before info query", "offline", True, "The connection broke before the message was sent."),
    ("failed to get device list", "no_answer", True, "WhatsApp did not say which devices the receiver has."),
    ("failed to get user info", "no_answer", True, "WhatsApp did not say whether the receiver exists."),
    ("failed to get group members", "group_unavailable", True, "WhatsApp did not say who is in the group."),
    ("failed to get LID for PN", "no_answer", True, "WhatsApp did not say under which address the receiver is known."),
    ("failed to marshal message", "unsupported", False, "The message could not be put into WhatsApp's form."),
)
#: Acknowledgement codes that will be the same next time.
_FINAL = {
    463: ("restricted", "WhatsApp does not let this account write to people it has no conversation with, for now."),
    475: ("restricted", "WhatsApp does not let this account write to this person."),
    479: ("rejected", "WhatsApp rejected the message as malformed or not allowed."),
    403: ("forbidden", "WhatsApp does not allow this account to write to this chat."),
    404: ("not_found", "WhatsApp does not know this chat."),
    405: ("rejected", "WhatsApp does not allow this kind of message here."),
    421: ("group_unavailable", "WhatsApp refused the message: the list of people in the group was out of date."),
}


def failure(error: str) -> NotSent | Unknown:
    """Return what an error of a send means. Certainly not sent only where that is known."""
    if found := _REFUSED.search(error):
        number = int(found[1])
        code, sentence = _FINAL.get(number, ("refused", f"WhatsApp refused the message with code {number}."))
        return NotSent(code, sentence, retryable=number >= 500 or number == 429, number=number)
    for text, code, retryable, sentence in _NOT_SENT:
        if text in error:
            return NotSent(code, sentence, retryable=retryable)
    return Unknown(f"WhatsApp did not confirm the message ({error or 'no answer'}).")


def upload_failure(error: str) -> NotSent:
    """Return what it means that a file could not be uploaded: the message was not sent."""
    if "websocket not connected" in error or "client is nil" in error:
        return NotSent("offline", "The account is not connected.", retryable=True)
    return NotSent("upload_failed", "The file could not be uploaded to WhatsApp.", retryable=True)
