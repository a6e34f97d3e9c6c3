"""What time does to messages: expired ones fail, those whose sender is gone are uncertain, uncertain ones that may be
repeated are."""

from __future__ import annotations

from datetime import datetime

from messaging import hints
from messaging.errors import sentence
from messaging.models import Message

_BATCH = 200


def age(now: datetime) -> bool:
    """Do all three; return whether there was one."""
    full = Message.objects.select_related("account", "chat", "media", "target")
    expired = [message.fail("expired", sentence("expired")) for message in full.expired(now)[:_BATCH]]
    lost = [message.uncertain("host_died", sentence("host_died")) for message in full.orphaned(now)[:_BATCH]]
    resent = [message.resend(f"{message.queued_by} (uncertain)"[:150]) for message in full.to_resend(now)[:_BATCH]]
    if any(resent):
        hints.queued()
    return bool(expired or lost or resent)
