"""Who speaks to the web process."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str:
    """Return the address of the client: behind our TLS proxy (HTTPS=on) what that proxy saw, else the socket's.

    The proxy appends to X-Forwarded-For, so only its last entry is not the client's own invention.
    """
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    if settings.HTTPS and forwarded:
        return forwarded.rsplit(",", 1)[-1].strip()
    return str(request.META.get("REMOTE_ADDR", ""))
