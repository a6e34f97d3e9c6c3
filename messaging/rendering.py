"""A message as the API, the events and the commands show it: one form everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from messaging.models.chat import Chat
    from messaging.models.media import Media
    from messaging.models.message import Message


def message_body(message: Message) -> dict[str, Any]:
    """Return a message as JSON. Never bytes, never a signed address: those are made for each reader."""
    return {
        "id": message.pk,
        "account_id": message.account_id,
        "direction": message.direction,
        "kind": message.kind,
        "state": message.state,
        "chat": chat_body(message.chat),
        "sender": sender_body(message),
        "content": message.content,
        "media": media_body(message.media),
        "target_id": message.target_id,
        "whatsapp_id": message.whatsapp_id,
        "error": {"code": message.error_code, "detail": message.error} if message.error_code else None,
        "on_uncertain": message.on_uncertain if message.is_out else None,
        "attempts": message.attempts,
        "created_at": _time(message.created_at),
        "send_at": _time(message.send_at),
        "expires_at": _time(message.expires_at),
        "sent_at": _time(message.sent_at),
        "delivered_at": _time(message.delivered_at),
        "read_at": _time(message.read_at),
        "edited_at": _time(message.edited_at),
        "revoked_at": _time(message.revoked_at),
    }


def chat_body(chat: Chat) -> dict[str, Any]:
    """Return a chat: its address, and number and LID wherever they are known."""
    return {"jid": chat.jid, "phone": _plus(chat.phone), "lid": _at_lid(chat.lid), "name": chat.name,
            "group": chat.is_group}  # fmt: skip


def sender_body(message: Message) -> dict[str, Any] | None:
    """Return who wrote an inbound message."""
    if message.is_out:
        return None
    return {"jid": message.sender_jid, "phone": _plus(message.sender_phone), "lid": _at_lid(message.sender_lid),
            "name": message.sender_name}  # fmt: skip


def media_body(media: Media | None) -> dict[str, Any] | None:
    """Return what is known of a file."""
    if media is None:
        return None
    return {"id": media.pk, "state": media.state, "mime": media.mime, "size": media.size, "sha256": media.sha256,
            "name": media.name}  # fmt: skip


def _time(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def _plus(digits: str) -> str | None:
    return f"+{digits}" if digits else None


def _at_lid(lid: str) -> str | None:
    return f"{lid}@lid" if lid else None
