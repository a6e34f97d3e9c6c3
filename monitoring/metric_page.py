"""The page of one metric: its history over a day, a week or a month, as a picture and as a table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.cards import limits_in_words
from monitoring.evaluation import Level, Limits, Reading, level
from monitoring.health import account_of, label_of, limits_of
from monitoring.levels import LEVELS, Sign
from monitoring.metrics import Metric
from monitoring.models import HealthSample, Incident, Resolution, Threshold
from sessions_app.explanations import moment


@dataclass(frozen=True)
class Range:
    """How far back, from which rows, in steps of what in the picture and in the table."""

    label: Any
    span: timedelta
    resolution: Resolution
    step: timedelta
    row: timedelta
    tick: timedelta  # between two labels of the picture


_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RANGES: dict[str, Range] = {
    "24h": Range(lazy("24 hours"), _DAY, Resolution.READING, 4 * _MINUTE, _HOUR, 3 * _HOUR),
    "7d": Range(lazy("7 days"), 7 * _DAY, Resolution.HOUR, _HOUR, 6 * _HOUR, _DAY),
    "30d": Range(lazy("30 days"), 30 * _DAY, Resolution.HOUR, 3 * _HOUR, _DAY, 5 * _DAY),
}


@dataclass(frozen=True)
class Step:
    """The readings of one step of time."""

    at: datetime
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    moment: str
    low: str
    mean: str
    high: str
    sign: Sign


def context(metric: Metric, subject: str, chosen: str, now: datetime) -> dict[str, Any]:
    """Return what the page shows."""
    span = RANGES[chosen]
    samples = history(metric.name, subject, now, span)
    threshold = Threshold.objects.filter(metric=metric.name, account=account_of(subject), enabled=True).first()
    limits = limits_of(metric, threshold)
    steps = summed(samples, span.step)
    where = Incident.objects.filter(metric=metric.name).order_by("-id")
    subjects = HealthSample.objects.filter(metric=metric.name, resolution=Resolution.READING, at__gt=now - _HOUR)
    return {
        "metric": metric, "chosen": chosen, "ranges": [(name, one.label) for name, one in RANGES.items()],
        "subject": subject, "subject_label": label_of(subject) if subject else _("the whole server"),
        "subjects": [(one, label_of(one) if one else _("the whole server"))
                     for one in subjects.order_by("subject").values_list("subject", flat=True).distinct()],
        "threshold": threshold, "limits_shown": limits_in_words(metric, limits),
        "chart": _chart(metric, steps, limits, span, now),
        "rows": [_row(metric, step, limits) for step in reversed(summed(samples, span.row))],
        "incidents": where[:10],
    }  # fmt: skip


def history(metric: str, subject: str, now: datetime, span: Range) -> list[HealthSample]:
    """Return the rows of a range, oldest first; what is not summed up into hours yet, as readings."""
    since = now - span.span
    rows = list(HealthSample.objects.series(metric, subject, since, span.resolution).filter(count__gt=0))
    if span.resolution is not Resolution.READING:
        later = max(since, rows[-1].at + rows[-1].span) if rows else since
        rows += HealthSample.objects.series(metric, subject, later, Resolution.READING).filter(count__gt=0)
    return rows


def summed(samples: list[HealthSample], step: timedelta) -> list[Step]:
    """Return the rows summed up by steps of time, oldest first; steps without a row are left out."""
    groups: dict[int, list[HealthSample]] = defaultdict(list)
    for sample in samples:
        groups[int(sample.at.timestamp() // step.total_seconds())].append(sample)
    return [
        Step(
            datetime.fromtimestamp(number * step.total_seconds(), UTC),
            sum(row.value * row.count for row in rows) / sum(row.count for row in rows),
            min(row.minimum for row in rows), max(row.maximum for row in rows),
        )
        for number, rows in sorted(groups.items())
    ]  # fmt: skip


def _chart(metric: Metric, steps: list[Step], limits: Limits | None, span: Range, now: datetime) -> dict[str, Any]:
    """Return what health.js draws. Between steps that are further apart than they should be the line has a gap."""
    points: list[dict[str, Any]] = []
    for step in steps:
        at = int(step.at.timestamp() * 1000)
        if points and at - points[-1]["x"] > 2.5 * span.step.total_seconds() * 1000:
            points.append({"x": points[-1]["x"] + 1, "mean": None, "high": None})
        points.append({"x": at, "mean": round(step.mean, 4), "high": round(step.high, 4)})
    return {
        "points": points, "unit": str(metric.unit), "from": int((now - span.span).timestamp() * 1000),
        "to": int(now.timestamp() * 1000), "days": span.span > _DAY,
        "tick": int(span.tick.total_seconds() * 1000),
        "lines": [
            {"label": str(LEVELS[name].word), "value": value, "kind": name}
            for name, value in ((Level.WARNING, limits.warning), (Level.CRITICAL, limits.critical))
        ] if limits else [],
        "words": {"mean": _("mean"), "high": _("highest")},
    }  # fmt: skip


def _row(metric: Metric, step: Step, limits: Limits | None) -> Row:
    worst = step.high if limits is None or limits.above else step.low
    sign = LEVELS[level(Reading(step.at, worst), limits)]
    return Row(moment(step.at), metric.shown(step.low), metric.shown(step.mean), metric.shown(step.high), sign)
