"""Telling it: claims what is due, folds it into one message per channel, sends, records. Runs in deliver_alerts alone.

A message is handed over before that is written down: a process killed in between tells it twice rather than never.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from monitoring.alerts import words
from monitoring.models import AlertChannel, AlertDelivery, Change, DeliveryState, EntryKind
from monitoring.wording import filled

_log = logging.getLogger(__name__)

#: `send(url, title, body, severity)` returns "" or why it did not arrive.
Send = Callable[[str, str, str, str], str]

#: At most so many messages in one process: more than that is a flood, and the next run goes on.
ROUNDS = 200


def deliver(send: Send, go_on: Callable[[], bool] = lambda: True, only: int | None = None) -> dict[str, int]:
    """Send what is due until nothing is; return how many rows arrived and missed. `only`: this row and no other.

    Channels that worked last time come first, so that a broken one delays nobody.
    """
    counts = {"sent": 0, "missed": 0}
    rows = AlertDelivery.objects.filter(pk=only) if only is not None else AlertDelivery.objects.all()
    if only is not None:  # whoever asks for it waits for it
        rows.filter(state=DeliveryState.QUEUED).update(next_at=timezone.now())
    for _round in range(ROUNDS):
        channel = _next_channel(rows, timezone.now())
        if channel is None or not go_on():
            break
        claimed = rows.filter(channel=channel).claim(uuid.uuid4().hex, timezone.now())
        if claimed:
            counts["sent" if _tell(channel, claimed, send) else "missed"] += len(claimed)
    return counts


def _next_channel(rows: QuerySet[AlertDelivery], now: datetime) -> AlertChannel | None:
    due = rows.filter(state=DeliveryState.QUEUED, next_at__lte=now)
    waiting = AlertChannel.objects.filter(pk__in=due.values("channel"))
    return min(waiting, key=lambda channel: (channel.is_failing, channel.pk), default=None)


def _tell(channel: AlertChannel, rows: Sequence[AlertDelivery], send: Send) -> bool:
    """Send these rows as one message; return whether it arrived."""
    if not channel.enabled and any(row.change != Change.TEST for row in rows):
        for row in rows:
            row.missed(timezone.now(), str(_("The channel was switched off.")), final=True)
        return False
    with translation.override(settings.LANGUAGE_CODE):
        title, body = words.folded(rows)
    error = send(channel.url, title, body, _severity(rows))
    now = timezone.now()
    for row in rows:
        row.channel = channel
        if error:
            row.missed(now, error)
        else:
            row.arrived(now)
        _record(row, now)
    if error:
        _log.warning("Alert channel %s: %s", channel, error)
        AlertChannel.objects.filter(pk=channel.pk).update(last_failure_at=now, last_error=error)
    else:
        AlertChannel.objects.filter(pk=channel.pk).update(last_success_at=now, last_error="")
    return not error


def _record(row: AlertDelivery, now: datetime) -> None:
    """Write into the incident's timeline who was told, or that telling failed for good."""
    texts = {
        DeliveryState.SENT: _("told “%(channel)s”: %(what)s"),
        DeliveryState.FAILED: _("could not tell “%(channel)s”: %(what)s"),
    }
    if row.incident is not None and row.state in texts:
        told = filled(texts[DeliveryState(row.state)], {"channel": row.channel.name, "what": Change(row.change).label})
        row.incident.record(EntryKind.ALERT, now, text=told, evidence={"error": row.error} if row.error else None)


def _severity(rows: Sequence[AlertDelivery]) -> str:
    """Return the worst of what is still bad; "resolved" when nothing is; "" when it is about no incident."""
    about = [row for row in rows if row.incident is not None]
    bad = [row.severity for row in about if row.change != Change.RESOLVED]
    return ("critical" if "critical" in bad else "warning") if bad else "resolved" if about else ""
