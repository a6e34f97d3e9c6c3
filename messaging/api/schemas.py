"""What goes over the wire."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema
from pydantic import AfterValidator, AwareDatetime, ConfigDict, StrictBool

from messaging.api.paging import Id
from messaging.kinds import CAPTION_MAX, TEXT_MAX


def _clean(text: str) -> str:
    """Return a text in composed form. Raises ValueError for what no database and no phone takes."""
    if "\x00" in text:
        raise ValueError("a NUL character is not text")
    return unicodedata.normalize("NFC", text)


def _visible(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _sane(at: datetime) -> datetime:
    if not 2000 <= at.year <= 2200:
        raise ValueError("a year between 2000 and 2200")
    return at.astimezone(UTC)


Clean = AfterValidator(_clean)
Visible = AfterValidator(_visible)
Time = Annotated[AwareDatetime, AfterValidator(_sane), Field(examples=["2030-01-01T09:00:00+07:00"])]
Text = Annotated[str, Field(max_length=TEXT_MAX), Clean, Visible]
Caption = Annotated[str, Field(max_length=CAPTION_MAX), Clean]
Name = Annotated[str, Field(min_length=1, max_length=120), Clean, Visible]
Number = Annotated[str, Field(max_length=40, examples=["+62 812-0000-0001"]), Clean]
Address = Annotated[
    str,
    Field(max_length=80, examples=["+62 812-0000-0001"],
          description="A phone number, a group (…@g.us) or a LID (…@lid). A number begins with + and its country code; "
          "without the + it is taken for a mobile number of the server's own country where it can be one."),
    Clean,
]  # fmt: skip


class In(Schema):
    """A body: a field nobody knows is refused, so that a misspelt option is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class MediaIn(In):
    """A file: exactly one of `id` (of an upload), `base64` or `url` (https, fetched by the server)."""

    id: Id | None = None
    base64: Annotated[str, Field(examples=["iVBORw0KGgo…"])] | None = None
    url: Annotated[str, Field(max_length=2000, examples=["https://example.org/picture.png"])] | None = None
    filename: Annotated[str, Field(max_length=200), Clean] = ""
    mime: Annotated[str, Field(max_length=120, pattern=r"^([\w.+-]+/[\w.+-]+(;.*)?)?$")] = ""


class Base(In):
    """What every message has."""

    account_id: Id
    to: Address
    reply_to: Annotated[Id | None, Field(description="Id of a message of this chat to quote.")] = None
    send_at: Time | None = None
    expires_at: Annotated[Time | None, Field(description="Give it up when it could not be sent by then.")] = None
    on_uncertain: Annotated[
        Literal["hold", "resend"],
        Field(description="When WhatsApp's answer is lost: `hold` waits for a receipt or a person, `resend` sends "
              "again and may arrive twice."),
    ] = "hold"  # fmt: skip


class TextIn(Base):
    """Words."""

    kind: Literal["text"] = "text"
    text: Annotated[Text, Field(examples=["Hello!"])]
    mentions: Annotated[list[Number], Field(max_length=50)] = []
    preview: Annotated[StrictBool, Field(description="Show a preview of a link in the text.")] = False


class ImageIn(Base):
    """A JPEG or PNG."""

    kind: Literal["image"]
    media: MediaIn
    caption: Caption = ""


class VideoIn(Base):
    """An MP4."""

    kind: Literal["video"]
    media: MediaIn
    caption: Caption = ""


class AudioIn(Base):
    """A sound file."""

    kind: Literal["audio"]
    media: MediaIn


class VoiceIn(Base):
    """A voice note: OGG with Opus."""

    kind: Literal["voice"]
    media: MediaIn


class DocumentIn(Base):
    """Any file."""

    kind: Literal["document"]
    media: MediaIn
    filename: Annotated[str, Field(max_length=200), Clean] = ""
    caption: Caption = ""


class StickerIn(Base):
    """A WebP."""

    kind: Literal["sticker"]
    media: MediaIn


class LocationIn(Base):
    """A place."""

    kind: Literal["location"]
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    name: Annotated[str, Field(max_length=200), Clean] = ""
    address: Annotated[str, Field(max_length=400), Clean] = ""


class ContactIn(Base):
    """A contact card."""

    kind: Literal["contact"]
    name: Name
    phones: Annotated[list[Number], Field(min_length=1, max_length=10)]


class PollIn(Base):
    """A question with answers to choose from."""

    kind: Literal["poll"]
    question: Annotated[str, Field(min_length=1, max_length=255), Clean, Visible]
    options: Annotated[list[Annotated[str, Field(min_length=1, max_length=100), Clean, Visible]],
                       Field(min_length=2, max_length=12)]  # fmt: skip
    selectable: Annotated[int, Field(ge=0, le=12, description="How many may be chosen; 0 is any number.")] = 1


class ReactionIn(Base):
    """An emoji on a message; an empty one takes it back."""

    kind: Literal["reaction"]
    message_id: Id
    emoji: Annotated[str, Field(max_length=32, examples=["👍"]), Clean]


class EditIn(Base):
    """New words for a message this account sent."""

    kind: Literal["edit"]
    message_id: Id
    text: Text


class RevokeIn(Base):
    """Delete a message this account sent, for everyone."""

    kind: Literal["revoke"]
    message_id: Id


MessageIn = Annotated[
    TextIn | ImageIn | VideoIn | AudioIn | VoiceIn | DocumentIn | StickerIn | LocationIn | ContactIn | PollIn
    | ReactionIn | EditIn | RevokeIn,
    Field(discriminator="kind"),
]  # fmt: skip

State = Literal["queued", "sending", "sent", "delivered", "read", "failed", "uncertain", "cancelled", "received"]


class ChatOut(Schema):
    """A conversation. `phone` and `lid` are both there wherever they are known."""

    jid: str = Field(examples=["6281200000001@s.whatsapp.net"])
    phone: str | None = Field(None, examples=["+6281200000001"])
    lid: str | None = Field(None, examples=["123456789012345@lid"])
    name: str = ""
    group: bool = False


class SenderOut(Schema):
    """Who wrote an inbound message."""

    jid: str
    phone: str | None = None
    lid: str | None = None
    name: str = ""


class MediaOut(Schema):
    """A file; `url` is signed and expires."""

    id: int
    state: str = Field(examples=["stored"])
    mime: str
    size: int
    sha256: str
    name: str = ""
    url: str | None = None


class ErrorOut(Schema):
    """Why a message failed, is uncertain or waits."""

    code: str = Field(examples=["not_on_whatsapp"])
    detail: str


class MessageOut(Schema):
    """A message as it is now."""

    id: int
    account_id: int
    direction: Literal["in", "out"]
    kind: str = Field(examples=["text"])
    state: State
    chat: ChatOut
    sender: SenderOut | None = None
    content: dict[str, Any]
    media: MediaOut | None = None
    target_id: int | None = None
    whatsapp_id: str | None = None
    error: ErrorOut | None = None
    on_uncertain: str | None = None
    attempts: int = 0
    created_at: datetime
    send_at: datetime | None = None
    expires_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    edited_at: datetime | None = None
    revoked_at: datetime | None = None
