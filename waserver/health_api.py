"""Health over the API, to read only. Here and not in messaging, which knows nothing of monitoring."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema

from messaging.api.auth import READ, key_of
from messaging.api.problems import documented
from messaging.errors import Refused
from monitoring.evaluation import STALE
from monitoring.health import readings
from monitoring.metrics import METRICS
from monitoring.models import Incident, Severity

router = Router(tags=["health"])


class ReadingOut(Schema):
    """The newest reading of one metric; `value` is null when it is missing or old."""

    metric: str
    subject: str = ""
    value: float | None
    unit: str = ""
    at: datetime


class IncidentOut(Schema):
    """Something that is bad now."""

    id: int
    title: str
    severity: Literal["warning", "critical"]
    subject: str = ""
    opened_at: datetime


class HealthOut(Schema):
    """`status` is the worst of the incidents; unknown when nothing was measured lately."""

    status: Literal["ok", "warning", "critical", "unknown"]
    readings: list[ReadingOut]
    incidents: list[IncidentOut]


@router.get("/health", auth=READ, response={200: HealthOut, **documented()}, summary="Health of the server")
def health(request: HttpRequest) -> Any:
    """For keys of every account. Without a key there are /healthz and /readyz."""
    if key_of(request).limited:
        raise Refused("scope_missing", "This key is limited to some accounts; the health of the server is for others.")
    now = timezone.now()
    newest = [(name, subject, past[-1]) for (name, subject), past in readings(now).items() if past and name in METRICS]
    incidents = list(Incident.objects.unresolved().roots().order_by("-id")[:100])
    return {
        "status": _status(incidents, any(now - reading.at < STALE for _name, _subject, reading in newest)),
        "readings": [
            {"metric": name, "subject": subject, "value": reading.value if now - reading.at < STALE else None,
             "unit": str(METRICS[name].unit), "at": reading.at} for name, subject, reading in newest
        ],
        "incidents": [
            {"id": row.pk, "title": row.shown_title, "severity": row.severity, "subject": row.subject_label,
             "opened_at": row.opened_at} for row in incidents
        ],
    }  # fmt: skip


def _status(incidents: list[Incident], measured: bool) -> str:
    severities = {row.severity for row in incidents}
    if Severity.CRITICAL in severities:
        return "critical"
    if Severity.WARNING in severities:
        return "warning"
    return "ok" if measured else "unknown"
