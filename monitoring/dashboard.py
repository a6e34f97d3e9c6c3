"""The admin index: is all well, what is not, since when, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Max
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from monitoring.alerts.advice import what_to_do
from monitoring.cards import Card, cards
from monitoring.evaluation import Level
from monitoring.levels import LEVELS, SEVERITIES, Sign
from monitoring.models import HealthSample, Incident, IncidentEntry, Severity
from sessions_app import overview

#: What is needed to see cards and incidents.
VIEW = "monitoring.view_incident"
#: What is needed to work on incidents.
HANDLE = "monitoring.handle_incident"
#: Incidents listed on the index.
_LISTED = 8


@dataclass(frozen=True)
class Summary:
    """The first line of the index."""

    sign: Sign
    text: str


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the index shows to those who may see it. unfold's DASHBOARD_CALLBACK."""
    if isinstance(request.user, User) and request.user.has_perm(VIEW):
        context |= shown(timezone.now())
    if isinstance(request.user, User) and request.user.has_perm("accounts.view_account"):
        context["overview"] = overview.context(timezone.now())
    return context


def shown(now: datetime) -> dict[str, Any]:
    """Return what the index shows."""
    all_cards = cards(now)
    unresolved = Incident.objects.unresolved().roots()
    # "critical" sorts before "warning".
    listed = list(unresolved.order_by("severity", "opened_at")[:_LISTED])
    counts = {severity: unresolved.filter(severity=severity).count() for severity in Severity} if listed else {}
    return {
        "health": True, "cards": all_cards, "summary": summarise(all_cards, counts),
        "incidents": [(incident, SEVERITIES[incident.severity], what_to_do(incident)) for incident in listed],
        "unlisted": sum(counts.values()) - len(listed),
    }  # fmt: skip


def summarise(all_cards: list[Card], counts: dict[Any, int]) -> Summary:
    """Return whether all is well. What is not known is not well."""
    critical, warning = counts.get(Severity.CRITICAL, 0), counts.get(Severity.WARNING, 0)
    parts = [
        ngettext("%(count)d critical incident", "%(count)d critical incidents", critical) % {"count": critical}
        if critical else "",
        ngettext("%(count)d warning", "%(count)d warnings", warning) % {"count": warning} if warning else "",
    ]  # fmt: skip
    if critical or warning:
        sign = LEVELS[Level.CRITICAL if critical else Level.WARNING]
        return Summary(sign, _(" and ").join(part for part in parts if part))
    unknown = [card for card in all_cards if card.level is Level.UNKNOWN]
    if len(unknown) == len(all_cards):
        sentence = _("Nothing is being measured: the cluster does not run. Start the server.")
        return Summary(LEVELS[Level.UNKNOWN], sentence)
    if unknown:
        return Summary(LEVELS[Level.UNKNOWN], _("Not known: %(names)s") % {
            "names": ", ".join(str(card.metric.label) for card in unknown)})  # fmt: skip
    bad = [card for card in all_cards if card.level in (Level.WARNING, Level.CRITICAL)]
    if bad:
        worst = Level.CRITICAL if any(card.level is Level.CRITICAL for card in bad) else Level.WARNING
        return Summary(LEVELS[worst], _("Beyond a limit: %(names)s") % {
            "names": ", ".join(str(card.metric.label) for card in bad)})  # fmt: skip
    return Summary(LEVELS[Level.OK], _("All is well."))


def rendered(now: datetime) -> dict[str, Any]:
    """Return the parts of the index that change, as HTML by their element's id."""
    values = shown(now)
    parts = {f"card-{card.metric.name}": render_to_string("monitoring/card.html", {"card": card})
             for card in values["cards"]}  # fmt: skip
    parts["health-summary"] = render_to_string("monitoring/summary.html", values)
    return parts


def version() -> int:
    """Return a number that changes whenever the index may have something else to show."""
    sample = HealthSample.objects.aggregate(last=Max("pk"))["last"] or 0
    entry = IncidentEntry.objects.aggregate(last=Max("pk"))["last"] or 0
    return int(sample) + int(entry)
