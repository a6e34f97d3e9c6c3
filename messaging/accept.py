"""Accepting a message for sending: everything that can be known to be wrong is said now, and then it is stored."""

from __future__ import annotations

import base64
import binascii
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Account, ApiKey, Desired
from messaging import outgoing
from messaging.addresses import digits_of, jid_of
from messaging.errors import Refused
from messaging.kinds import ABOUT, MEDIA, Kind
from messaging.models import Chat, Direction, Media, MediaState, Message, Once, OnUncertain
from messaging.sniff import ENOUGH, fitting_type, sniff
from sessions_app.states import NEEDS_PAIRING, State

_FARTHEST = timedelta(days=366)
#: Fields of a body that are the message's own, not its content.
_ENVELOPE = frozenset({"account_id", "to", "kind", "reply_to", "send_at", "expires_at", "on_uncertain", "media",
                       "message_id"})  # fmt: skip


def check_account(account: Account) -> None:
    """Raise Refused unless the account can send, now or after a reconnect that needs no person."""
    session = account.session
    if session.state in NEEDS_PAIRING or (session.state == State.PAIRING and not session.store):
        raise Refused("account_not_paired")
    if session.state == State.BANNED:
        raise Refused("account_banned")
    if account.desired == Desired.OFFLINE or session.hold:
        raise Refused("account_stopped")


def accept(account: Account, body: dict[str, Any], *, by: str, api_key: ApiKey | None = None,
           now: datetime | None = None) -> Message:  # fmt: skip
    """Store a message for sending. `body` is a schema of messaging.api.schemas as a dict. Raises Refused."""
    return _Letter(account, body, by, api_key, now or timezone.now()).store()


class _Letter:
    """A message on its way in: looked at first, then stored."""

    def __init__(self, account: Account, body: dict[str, Any], by: str, api_key: ApiKey | None, now: datetime,
                 chat: Chat | None = None) -> None:  # fmt: skip
        check_account(account)
        _check_times(body, now)
        self.account, self.body, self.by, self.api_key, self.now, self.chat = account, body, by, api_key, now, chat
        self.kind = Kind(body["kind"])
        self.jid = jid_of(body["to"])
        self.content = content_of(self.kind, body)
        self.file = file_of(self.kind, body["media"], api_key) if self.kind in MEDIA else None

    def store(self, once: Once | None = None) -> Message:
        """Store it, with what belongs to it or not at all. Raises IntegrityError when it was stored `once` before."""
        # Where there is nothing but its own row, that is the transaction.
        with nullcontext() if self.chat is not None and self.file is None else transaction.atomic():
            return self._store(once)

    def _store(self, once: Once | None) -> Message:
        body, file = self.body, self.file
        chat = self.chat or Chat.objects.of(self.account, self.jid)
        if chat.is_absent(self.now):
            raise Refused("not_on_whatsapp")
        target = _target(self.kind, chat, body)
        if file is not None and file.pk is None:
            file.save()
        return Message.queue(
            chat, self.kind, self.content, media=file, target=target, send_at=body.get("send_at"),
            expires_at=body.get("expires_at"), on_uncertain=OnUncertain(body.get("on_uncertain", "hold")), by=self.by,
            api_key=self.api_key, once=once, now=self.now,
        )  # fmt: skip


def accept_once(account: Account, body: dict[str, Any], raw: bytes, idempotency_key: str, api_key: ApiKey,
                chat: Chat | None = None, now: datetime | None = None) -> tuple[Message, bool]:  # fmt: skip
    """Accept, or return what the same key and body made within 24 hours; and whether it is new. Raises Refused.

    `chat`: the account's with this address, where it is known.
    """
    now = now or timezone.now()
    if not idempotency_key:
        return _Letter(account, body, api_key.name, api_key, now, chat).store(), True
    if not (idempotency_key.isascii() and idempotency_key.isprintable() and len(idempotency_key) <= 255):
        raise Refused("idempotency_key_invalid")
    once = Once.of(idempotency_key, raw)
    # A key that is not new is rare, and the database notices; only a file is not made twice.
    if body.get("media") and (earlier := _earlier(once, api_key, now)) is not None:
        return earlier, False
    for attempt in (1, 2):
        try:
            letter = _Letter(account, body, api_key.name, api_key, now, chat if attempt == 1 else None)
            return letter.store(once), True
        except (Refused, IntegrityError) as error:
            # What was accepted before stays accepted, whatever became of the account. A key of yesterday is forgotten.
            earlier = _earlier(once, api_key, now)
            if earlier is not None:
                return earlier, False
            if attempt == 2 or isinstance(error, Refused):
                raise
    raise AssertionError("unreachable")


def _earlier(once: Once, api_key: ApiKey, now: datetime) -> Message | None:
    rows = Message.objects.filter(api_key=api_key, idempotency_hash=once.key_hash)
    found = rows.select_related("chat", "media").first()
    if found is None:
        return None
    if now - found.created_at >= Once.LIFETIME:
        Message.objects.filter(pk=found.pk).update(idempotency_hash=None)
        return None
    if found.body_hash != once.body_hash:
        raise Refused("idempotency_conflict")
    return found


def content_of(kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body's content in its stored form. Raises Refused for numbers that are none."""
    content = {name: value for name, value in body.items() if name not in _ENVELOPE}
    for field in ("mentions", "phones"):
        if field in content:
            content[field] = [digits_of(number) for number in content[field]]
    if kind is Kind.DOCUMENT and not content.get("filename"):
        content["filename"] = body["media"].get("filename") or ""
    if kind is Kind.POLL and content["selectable"] > len(content["options"]):
        raise Refused("invalid_request", "`selectable` must not be more than there are options.")
    if kind is Kind.POLL and len(set(content["options"])) != len(content["options"]):
        raise Refused("invalid_request", "Two options of the poll are the same.")
    return content


def _check_times(body: dict[str, Any], now: datetime) -> None:
    send_at, expires_at = body.get("send_at"), body.get("expires_at")
    if send_at is not None and send_at <= now:
        raise Refused("send_at_past")
    if send_at is not None and send_at > now + _FARTHEST:
        raise Refused("send_at_far")
    if expires_at is not None and expires_at <= (send_at or now):
        raise Refused("expires_at_past")


def _target(kind: Kind, chat: Chat, body: dict[str, Any]) -> Message | None:
    pk = body.get("message_id") if kind in ABOUT else body.get("reply_to")
    if pk is None:
        return None
    target = Message.objects.filter(chat=chat, pk=pk).first()
    if target is None:
        raise Refused("target_missing")
    if kind in (Kind.EDIT, Kind.REVOKE) and target.direction != Direction.OUT:
        raise Refused("target_not_ours")
    return target


def file_of(kind: Kind, given: dict[str, Any], api_key: ApiKey | None) -> Media:
    """Return the file of a message: one uploaded before, one from the body, or one to be fetched.

    Where it has no id yet, whoever stores the message saves it, in the same transaction. Raises Refused.
    """
    sources = [name for name in ("id", "base64", "url") if given.get(name) is not None]
    if len(sources) != 1:
        raise Refused("media_missing")
    if sources == ["id"]:
        uploaded = Media.objects.filter(pk=given["id"], api_key=api_key, state=MediaState.STORED).first()
        if uploaded is None or api_key is None:
            raise Refused("media_unknown")
        return copy_of(kind, uploaded)
    if sources == ["url"]:
        outgoing.check(given["url"])
        return Media(state=MediaState.WANTED, url=given["url"], kind=kind, mime=given.get("mime") or "",
                     name=given.get("filename") or "", api_key=api_key, next_at=timezone.now())  # fmt: skip
    data = decoded(given["base64"])
    check_size(len(data))
    mime = fitting(kind, data[:ENOUGH], given.get("mime") or "")
    return Media.store(data, mime, given.get("filename") or "", api_key)


def copy_of(kind: Kind, uploaded: Media) -> Media:
    """Return an uploaded file as one to send: a row of its own, not yet saved. Raises Refused when it does not fit."""
    with uploaded.file.open("rb") as handle:
        mime = fitting(kind, handle.read(ENOUGH), uploaded.mime)
    return Media(mime=mime, name=uploaded.name, sha256=uploaded.sha256, size=uploaded.size, path=uploaded.path,
                 api_key=uploaded.api_key)  # fmt: skip


def put_aside(upload: UploadedFile[Any], api_key: ApiKey | None) -> Media:
    """Store an uploaded file, to be sent later; what is not sent within a day is deleted. Raises Refused."""
    check_size(upload.size or 0)
    data = upload.read()
    declared = (upload.content_type or "").split(";")[0][:120]
    mime = sniff(data[:ENOUGH]) or declared or "application/octet-stream"
    return Media.store(data, mime, (upload.name or "")[:200], api_key)


def decoded(text: str) -> bytes:
    """Return what base64 stands for; a data: URL's prefix is let pass. Raises Refused."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refused("media_base64") from None


def check_size(size: int) -> None:
    """Raise Refused for an empty or too large file."""
    if size == 0:
        raise Refused("media_empty")
    if size > settings.MEDIA_MAX_BYTES:
        raise Refused("media_too_large", values={"limit": settings.MEDIA_MAX_BYTES // 1_000_000})


def fitting(kind: Kind, head: bytes, declared: str) -> str:
    """Return the MIME type to send the file with. Raises Refused when this kind does not carry such a file."""
    mime = fitting_type(kind, head, declared)
    if not mime:
        raise Refused("media_type")
    return mime
