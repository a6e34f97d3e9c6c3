"""What is to be told, and to whom: rows, written in the caller's transaction. Nothing is sent here."""

from __future__ import annotations

import logging

from django.conf import settings
from django.db import transaction
from django.utils import translation
from django_q.tasks import async_task

from monitoring.alerts import words
from monitoring.metrics import Kind
from monitoring.models import AlertChannel, AlertDelivery, Change, EntryKind, Incident

_log = logging.getLogger(__name__)

def notify(incident: Incident, change: str) -> int:
    """Queue `change` (a Change, or the EntryKind of that name) for every channel that wants it; return how many.

    Each channel is told a change of an incident once, however often this is called; a reopening is a new change. What
    is folded into another incident is told to nobody: that other one speaks for it.
    """
    what = Change(str(change))
    if incident.parent_id is not None:
        return 0
    again = incident.entries.filter(kind=EntryKind.REOPENED).count()
    channels = [c for c in AlertChannel.objects.wanting(incident, what) if not _is_about(incident, c)]
    with translation.override(settings.LANGUAGE_CODE):
        rows = [
            channel.queue(
                f"{incident.pk}:{what}:{again}", what, words.title(incident, what),
                words.body(incident, what, channel.zone),
                incident=incident, severity=incident.severity, urgent=incident.urgent and what != Change.RESOLVED,
            )
            for channel in channels
        ]  # fmt: skip
    AlertDelivery.objects.bulk_create(rows, ignore_conflicts=True)
    if rows:
        transaction.on_commit(_deliver_soon, robust=True)
    return len(rows)


def _is_about(incident: Incident, channel: AlertChannel) -> bool:
    """Return whether the incident says that this channel fails: then it cannot tell it."""
    return incident.subject_kind == Kind.CHANNEL and incident.subject_id == str(channel.pk)


def _deliver_soon() -> None:
    """Have the cluster look at once; without this the regular job finds it within 30 s."""
    async_task("sessions_app.jobs.run", "alerts")
