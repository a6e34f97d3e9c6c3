"""What several of our admin pages show alike."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as lazy

GREEN, BLUE, AMBER, RED, GREY = "green", "blue", "amber", "red", "grey"

#: State of a message, bulk send or delivery -> label, colour.
BADGES: dict[str, tuple[Any, str]] = {
    "queued": (lazy("queued"), BLUE), "sending": (lazy("sending"), BLUE), "sent": (lazy("sent"), GREEN),
    "delivered": (lazy("delivered"), GREEN), "read": (lazy("read"), GREEN), "failed": (lazy("failed"), RED),
    "uncertain": (lazy("uncertain"), AMBER), "cancelled": (lazy("cancelled"), GREY),
    "received": (lazy("received"), GREY),
    "running": (lazy("running"), BLUE), "paused": (lazy("paused"), AMBER), "done": (lazy("done"), GREEN),
    "waiting": (lazy("waiting"), BLUE), "refused": (lazy("refused"), RED),
    "pending": (lazy("pending"), BLUE), "dead": (lazy("given up"), RED),
    "enabled": (lazy("enabled"), GREEN), "disabled": (lazy("disabled"), RED), "failing": (lazy("failing"), AMBER),
    "valid": (lazy("valid"), GREEN), "expired": (lazy("expired"), GREY), "revoked": (lazy("revoked"), RED),
}  # fmt: skip


def badge(state: str) -> SafeString:
    """Return a coloured badge with its word."""
    label, colour = BADGES[state]
    return mark_safe(render_to_string("messaging/badge.html", {"label": label, "colour": colour}))  # noqa: S308


def tell(request: HttpRequest, words: str, count: int) -> None:
    """Say how many of something it was; that it was nothing is no success."""
    say = messages.success if count else messages.warning
    say(request, words % {"count": count})


class Media:
    """The style of these pages."""

    css = {"all": ["sessions_app/live.css", "messaging/messages.css"]}
