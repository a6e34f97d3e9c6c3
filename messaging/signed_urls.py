"""Addresses of files that carry their own permission and expire."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import signing

from messaging.models import MediaState

_SALT = "messaging.media"


def url_of(pk: int) -> str:
    """Return the address of a file, valid for MEDIA_URL_LIFETIME; absolute when PUBLIC_URL is set."""
    return f"{settings.PUBLIC_URL}/api/v1/media/{signing.dumps(pk, salt=_SALT)}"


def media_of(token: str) -> int:
    """Return the file an address stands for. Raises signing.SignatureExpired or signing.BadSignature."""
    return int(signing.loads(token, salt=_SALT, max_age=settings.MEDIA_URL_LIFETIME))


def signed(media: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a file as shown, with its address."""
    if media is None:
        return None
    return {**media, "url": url_of(media["id"]) if media["state"] == MediaState.STORED else None}


def with_url(body: dict[str, Any]) -> dict[str, Any]:
    """Return a message as shown, its file with its address."""
    return {**body, "media": signed(body["media"])} if "media" in body else body
