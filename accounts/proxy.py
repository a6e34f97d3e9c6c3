"""Proxy URLs of accounts: checked on input, shown without their credentials."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

#: What the session host can dial through (sessions_app.whatsapp.upstream knows the same, proven by a test).
SCHEMES = ("http", "socks5", "socks5h")


def validate(url: str) -> None:
    """Raise ValidationError with one sentence unless `url` is a proxy WhatsApp can be reached through."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and bool(parts.port)
        usable = usable and parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise ValidationError(
            _("This is not a proxy URL. Write it like http://user:password@proxy.example:8080 or socks5://host:1080."),
            code="invalid_proxy",
        )


def display(url: str) -> str:
    """Return the URL with any user name and password hidden."""
    if not url:
        return ""
    parts = urlsplit(url)
    credentials = "•••@" if parts.username or parts.password else ""
    return f"{parts.scheme}://{credentials}{parts.hostname}:{parts.port}"
