"""The cards of the admin index: what each metric is now, since when, and what came before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from monitoring.details import DETAILS, Detail
from monitoring.evaluation import STALE, Level, Limits, Reading, current, level
from monitoring.health import limits_of
from monitoring.levels import LEVELS, Sign
from monitoring.metrics import METRICS, Metric
from monitoring.models import HealthSample, Incident, Threshold
from monitoring.sparkline import SPAN, sparkline
from sessions_app.explanations import moment


@dataclass(frozen=True)
class Card:
    """One card, ready to be shown."""

    metric: Metric
    level: Level
    value: str
    since: str
    limits: str
    picture: SafeString
    url: str
    details: list[Detail]
    incident: Incident | None

    @property
    def sign(self) -> Sign:
        """Return the word, colour and icon of its level."""
        return LEVELS[self.level]


def cards(now: datetime) -> list[Card]:
    """Return all cards in their order. A bounded number of queries."""
    series: dict[str, list[Reading]] = defaultdict(list)
    rows = HealthSample.objects.readings(now - SPAN).filter(subject="").values_list("metric", "at", "value", "count")
    for name, at, value, count in rows:
        series[name].append(Reading(at, value if count else None))
    thresholds = Threshold.objects.in_force()
    incidents = {row.metric: row for row in Incident.objects.unresolved().filter(subject_id="", metric__in=METRICS)}
    shown = [metric for metric in METRICS.values() if metric.order]
    return [_card(metric, series[metric.name], thresholds, incidents, now) for metric in shown]


def _card(metric: Metric, readings: list[Reading], thresholds: Mapping[tuple[str, int | None], Threshold],
          incidents: Mapping[str, Incident], now: datetime) -> Card:  # fmt: skip
    limits = limits_of(metric, thresholds.get((metric.name, None)))
    newest = current(readings, now)
    state = level(newest, limits) if newest else Level.UNKNOWN
    value = metric.shown(newest.value) if newest else "–"
    told = limits_in_words(metric, limits)
    picture = sparkline(readings, limits, now, _("%(metric)s in the last hour: %(summary)s") % {
        "metric": metric.label, "summary": summary(metric, readings)})  # fmt: skip
    details = DETAILS[metric.name](now) if metric.name in DETAILS else []
    return Card(metric, state, value, since(readings, limits, now), told, picture,
                reverse("admin:monitoring_metric", args=[metric.name]), details,
                incidents.get(metric.name))  # fmt: skip


def since(readings: list[Reading], limits: Limits | None, now: datetime) -> str:
    """Return since when it is as it is, in words. `readings` are those of the last hour, oldest first."""
    newest = current(readings, now)
    if newest is None:
        last = moment(readings[-1].at) if readings else ""
        return _("last reading %(at)s") % {"at": last} if last else _("no reading in the last hour")
    state, first = level(newest, limits), newest
    for reading in reversed([r for r in readings if r.at < newest.at]):
        if level(reading, limits) is not state or first.at - reading.at >= STALE:
            return _("since %(at)s") % {"at": moment(first.at)}
        first = reading
    if now - first.at > SPAN - STALE:
        return _("for an hour or longer")
    return _("since %(at)s") % {"at": moment(first.at)}


def summary(metric: Metric, readings: list[Reading]) -> str:
    """Return the lowest, highest and last reading in words."""
    values = [reading.value for reading in readings if reading.value is not None]
    if not values:
        return _("no values")
    return _("lowest %(low)s, highest %(high)s, last %(last)s") % {
        "low": metric.shown(min(values)), "high": metric.shown(max(values)), "last": metric.shown(values[-1]),
    }  # fmt: skip


def limits_in_words(metric: Metric, limits: Limits | None) -> str:
    """Return both limits with their unit."""
    if limits is None:
        return _("no limit set")
    side = ">" if limits.above else "<"
    return _("warning %(side)s %(warning)s · critical %(side)s %(critical)s") % {
        "side": side, "warning": metric.limit(limits.warning), "critical": metric.limit(limits.critical)}  # fmt: skip
