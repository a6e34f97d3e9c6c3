"""One incident as its page shows it: what it is, what to do, what was found, what happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _

from monitoring.alerts.advice import what_to_do
from monitoring.evidence import Fact, facts
from monitoring.levels import SEVERITIES, STATES, Sign
from monitoring.metrics import METRICS, Kind
from monitoring.models import Incident, IncidentEntry
from sessions_app.explanations import moment


@dataclass(frozen=True)
class Line:
    """One line of the timeline."""

    entry: IncidentEntry
    moment: str
    facts: list[Fact]


def context(incident: Incident, now: datetime) -> dict[str, Any]:
    """Return what the page shows of an incident."""
    severity: Sign = SEVERITIES[incident.severity]
    return {
        "incident": incident, "severity": severity, "state": STATES[incident.state],
        "lasted": duration(incident.lasted(now)), "opened": moment(incident.opened_at),
        "resolved": moment(incident.resolved_at), "last_seen": moment(incident.last_breach_at),
        "facts": facts(incident.evidence), "subject_url": subject_url(incident),
        "advice": what_to_do(incident) if incident.is_open else "",
        "about": incident.subject_label or (METRICS[incident.metric].label if incident.metric in METRICS else "–"),
        "folded": [(child, STATES[child.state]) for child in incident.folded.order_by("-id")[:50]],
        "lines": [_line(entry) for entry in incident.entries.order_by("-id")[:200]],
    }  # fmt: skip


def _line(entry: IncidentEntry) -> Line:
    return Line(entry, moment(entry.at), facts({k: v for k, v in entry.evidence.items() if k != "action"}))


def rendered(incident: Incident, now: datetime) -> dict[str, str]:
    """Return the parts of the page that change, as HTML by their element's id."""
    values = context(incident, now)
    return {f"incident-{part}": render_to_string(f"monitoring/incident_{part}.html", values)
            for part in ("head", "timeline")}  # fmt: skip


def subject_url(incident: Incident) -> str:
    """Return the page of what it is about, or ""."""
    if incident.subject_kind == Kind.ACCOUNT and incident.subject_id.isdigit():
        return reverse("admin:accounts_account_change", args=[incident.subject_id])
    if incident.subject_kind == Kind.HOST:
        return reverse("admin:sessions_app_host_changelist")
    if incident.subject_kind == Kind.PROGRAM:
        return reverse("admin:monitoring_program_changelist")
    if incident.subject_kind == Kind.CHANNEL:
        return reverse("admin:monitoring_alertchannel_changelist")
    if incident.subject_kind == Kind.JOB:
        return reverse("admin:sessions_app_job_changelist")
    if incident.metric in METRICS:
        return reverse("admin:monitoring_metric", args=[incident.metric])
    return ""


def duration(span: timedelta) -> str:
    """Return a length of time as people say it."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 1:
        return _("less than a minute")
    if minutes < 120:
        return _("%(count)d min") % {"count": minutes}
    hours = minutes // 60
    return _("%(count)d h") % {"count": hours} if hours < 48 else _("%(count)d days") % {"count": hours // 24}
