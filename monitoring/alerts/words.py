"""The words of an alert: what, since when, what to do, where to look. Plain text, for a telephone's small screen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from monitoring.alerts.advice import what_to_do
from monitoring.models import AlertDelivery, Change, Incident, Severity

#: What a title begins with.
_OPENINGS = {
    (Change.OPENED, Severity.WARNING): lazy("Warning"),
    (Change.OPENED, Severity.CRITICAL): lazy("Critical"),
    (Change.REOPENED, Severity.WARNING): lazy("Warning, again"),
    (Change.REOPENED, Severity.CRITICAL): lazy("Critical, again"),
    (Change.ESCALATED, Severity.WARNING): lazy("Worse"),
    (Change.ESCALATED, Severity.CRITICAL): lazy("Now critical"),
    (Change.RESOLVED, Severity.WARNING): lazy("Resolved"),
    (Change.RESOLVED, Severity.CRITICAL): lazy("Resolved"),
}

#: So many of the folded titles are written out.
_LISTED = 20


def title(incident: Incident, change: Change) -> str:
    """Return the one line that says it."""
    opening = _OPENINGS[change, Severity(incident.severity)]
    return f"{opening}: {incident.shown_title}"[:250]


def body(incident: Incident, change: Change, zone: ZoneInfo) -> str:
    """Return the text below the title, with times on the clock of `zone`."""
    now = timezone.now()
    lines = []
    if incident.subject_label and incident.subject_label not in incident.shown_title:
        lines.append(_("About: %(subject)s") % {"subject": incident.subject_label})
    if change == Change.RESOLVED:
        ended = incident.resolved_at or now
        lines.append(_("From %(begin)s until %(end)s (%(duration)s).") % {
            "begin": clock(incident.opened_at, zone), "end": clock(ended, zone), "duration": lasting(incident, ended),
        })  # fmt: skip
        lines.append(_("There is nothing left to do."))
    else:
        lines.append(_("Since: %(begin)s") % {"begin": clock(incident.opened_at, zone)})
        lines.append(_("What to do: %(todo)s") % {"todo": what_to_do(incident)})
    lines.append(link(incident))
    return "\n".join(str(line) for line in lines)


def lasting(incident: Incident, now: datetime) -> str:
    """Return how long it has lasted, e.g. "3 h 20 min"."""
    minutes = max(0, round(incident.lasted(now).total_seconds() / 60))
    if minutes < 60:
        return _("%(minutes)d min") % {"minutes": minutes}
    return _("%(hours)d h %(minutes)d min") % {"hours": minutes // 60, "minutes": minutes % 60}


def clock(moment: datetime, zone: ZoneInfo) -> str:
    """Return a time as people of that zone read it, e.g. "24 Nov 2026, 20:31 (Asia/Jakarta)"."""
    return f"{date_format(moment.astimezone(zone), 'j M Y, H:i')} ({zone.key})"


def link(incident: Incident) -> str:
    """Return the address of the incident's page."""
    return f"{settings.SITE_URL}{reverse('admin:monitoring_incident_change', args=[incident.pk])}"


def folded(rows: Sequence[AlertDelivery]) -> tuple[str, str]:
    """Return one title and text for all of them, the newest change of an incident first.

    One row keeps its own words. Of several, each incident is listed once, with how it stands now.
    """
    if len(rows) == 1:
        return rows[0].title, rows[0].body
    latest: dict[object, AlertDelivery] = {}
    for row in rows:
        latest.pop(about := row.incident_id or row.key, None)
        latest[about] = row
    chosen = list(reversed(latest.values()))
    if len(chosen) == 1:
        return chosen[0].title, chosen[0].body
    still = sum(1 for row in chosen if row.incident is not None and row.incident.is_open)
    head = ngettext("%(count)d thing happened, %(open)d still open", "%(count)d things happened, %(open)d still open",
                    len(chosen)) % {"count": len(chosen), "open": still}  # fmt: skip
    parts = [f"{row.title}\n{row.body}" for row in chosen[:_LISTED]]
    if len(chosen) > _LISTED:
        parts.append(_("and %(count)d more: %(link)s") % {
            "count": len(chosen) - _LISTED, "link": f"{settings.SITE_URL}/admin/"})  # fmt: skip
    return head, "\n\n".join(parts)
