"""The report of a stretch of time, put together."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils.translation import gettext as _

from monitoring.models import HealthSample, Incident
from monitoring.reporting.numbers import Traffic, busiest, hours_part, operations_part
from monitoring.reporting.outlook import capacity_part, memory_part
from monitoring.reporting.sessions import sessions_part
from monitoring.reporting.shape import IncidentPart, Report

VERSION = 1
#: So many incidents are listed, newest first.
INCIDENTS = 200


def report(since: datetime, until: datetime) -> Report:
    """Return it, for `until` as now. The number of queries does not depend on the number of rows."""
    sessions = sessions_part(since, until)
    traffic = Traffic(since, until)
    hours = hours_part(since, until, traffic, sessions.lost_at)
    missing = []
    if not sessions.accounts:
        missing.append(_("There are no accounts yet."))
    if sessions.unknown:
        missing.append(_("Of some accounts nothing is known for a part of the time: it counts as neither up nor down."))
    if not traffic.count:
        missing.append(_("There were no API requests, so there are no response times."))
    if not HealthSample.objects.filter(at__gt=since, at__lte=until).exists():
        missing.append(_("No health readings were taken in this time: the cluster did not run, or had just begun."))
    return {
        "version": VERSION,
        "generated_at": until.isoformat(timespec="seconds"),
        "since": since.isoformat(timespec="seconds"),
        "until": until.isoformat(timespec="seconds"),
        "uptime": sessions.uptime,
        "accounts": sessions.accounts,
        "reconnects": sessions.reconnects,
        "requests": traffic.part(),
        "operations": operations_part(since, until, traffic),
        "hours": hours,
        "busiest": busiest(hours),
        "memory": memory_part(since, until),
        "incidents": _incidents(since, until),
        "capacity": capacity_part(until),
        "missing": missing,
    }


def _incidents(since: datetime, until: datetime) -> list[IncidentPart]:
    touched = Incident.objects.filter(Q(resolved_at=None) | Q(resolved_at__gt=since), opened_at__lte=until)
    return [
        {
            "id": row.pk, "title": row.shown_title, "severity": row.severity, "state": row.state,
            "opened_at": row.opened_at.isoformat(timespec="seconds"),
            "resolved_at": row.resolved_at.isoformat(timespec="seconds") if row.resolved_at else None,
            "lasted": round(max(row.lasted(until), timedelta(0)).total_seconds(), 1),
        }
        for row in touched[:INCIDENTS]
    ]  # fmt: skip
