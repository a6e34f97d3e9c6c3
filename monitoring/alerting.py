"""Tells the alerts of a change; incidents that are folded into another alert nobody."""

from __future__ import annotations

from monitoring.alerts import notify
from monitoring.models import EntryKind, Incident


def tell(incident: Incident, change: EntryKind) -> None:
    """Have those who should know told."""
    notify(incident, change.value)
