"""Tells the alerts of a change; incidents that are folded into another alert nobody."""

from __future__ import annotations

from importlib.util import find_spec

from django.utils.module_loading import import_string

from monitoring.models import EntryKind, Incident


def tell(incident: Incident, change: EntryKind) -> None:
    """Have those who should know told."""
    if incident.parent_id is None and find_spec("monitoring.alerts") is not None:
        import_string("monitoring.alerts.notify")(incident, change)
