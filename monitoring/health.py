"""health: every 30 s, measure, write the readings down, and open, escalate or resolve incidents. A doubled run is
harmless: its readings fall into the same moment, and an incident is open once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.models import Account
from monitoring import actions, alerting, causes
from monitoring.evaluation import AHEAD, STALE, Level, Limits, Reading, Verdict, judge
from monitoring.measuring.moment import IDLE, Measured, Moment
from monitoring.metrics import METRICS, Direction, Kind, Metric
from monitoring.models import EntryKind, HealthSample, Incident, Severity, Threshold
from monitoring.store import upsert
from monitoring.wording import later

_log = logging.getLogger(__name__)

#: Two runs within so many seconds write the same reading.
_SLOT = 15
#: Readings that are looked at.
_LOOKED_AT = 5 * STALE


def health(now: datetime) -> dict[str, int]:
    """Do all of it; return how much of each."""
    thresholds = Threshold.objects.in_force()
    written = collect(now, thresholds)
    changed = evaluate(now, thresholds) + causes.evaluate(now)
    return {"readings": written, "changes": changed, "open": Incident.objects.unresolved().count()}


def collect(now: datetime, thresholds: Mapping[tuple[str, int | None], Threshold]) -> int:
    """Measure everything and write it down; return the number of readings. What cannot be measured has no row."""
    # Readings from the future: the clock was ahead and has been set back.
    HealthSample.objects.filter(resolution=30, at__gt=now + timedelta(seconds=_SLOT) + AHEAD).delete()
    at = datetime.fromtimestamp(now.timestamp() // _SLOT * _SLOT, now.tzinfo)
    rows = []
    for metric in METRICS.values():
        moment = Moment(now, frozenset(pk for name, pk in thresholds if name == metric.name and pk is not None))
        for subject, value in measure(metric, moment).items():
            if value is None:
                continue
            number, count = (0.0, 0) if value == IDLE else (float(value), 1)
            rows.append(HealthSample(metric=metric.name, subject=subject, at=at, value=number, minimum=number,
                                     maximum=number, count=count))  # fmt: skip
    upsert(HealthSample, rows, HealthSample.KEY, HealthSample.VALUES)
    return len(rows)


def measure(metric: Metric, moment: Moment) -> Measured:
    """Return what a metric's function measured; nothing, hence unknown, when it failed."""
    try:
        measured: Measured = import_string(metric.measure)(moment)
    except Exception:  # noqa: BLE001 - one metric must not take the others with it
        _log.exception("%s could not be measured", metric.name)
        return {}
    return measured


def readings(now: datetime) -> dict[tuple[str, str], list[Reading]]:
    """Return the last readings by (metric, subject), oldest first. One query."""
    found: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    rows = HealthSample.objects.readings(now - _LOOKED_AT).values_list("metric", "subject", "at", "value", "count")
    for metric, subject, at, value, count in rows:
        found[metric, subject].append(Reading(at, value if count else None))
    return found


def evaluate(now: datetime, thresholds: Mapping[tuple[str, int | None], Threshold]) -> int:
    """Open, escalate and resolve the incidents of thresholds; return the number of changes."""
    series = readings(now)
    rows = Incident.objects.unresolved().filter(metric__in=METRICS)
    standing = {(row.metric, subject_of(row)): row for row in rows}
    changed = 0
    for metric, subject in sorted({*series, *standing}):
        if metric in METRICS and METRICS[metric].incidents:
            threshold = thresholds.get((metric, account_of(subject)))
            row = standing.get((metric, subject))
            changed += _evaluate_one(now, METRICS[metric], subject, series[metric, subject], threshold, row)
    return changed


def _evaluate_one(now: datetime, metric: Metric, subject: str, series: list[Reading], threshold: Threshold | None,
                  incident: Incident | None) -> bool:  # fmt: skip
    limits = limits_of(metric, threshold)
    verdict = judge(series, limits, now, Level(incident.severity) if incident else None)
    value = series[-1].value if series else None
    if verdict in (Verdict.OPEN_WARNING, Verdict.OPEN_CRITICAL):
        severity = Severity.CRITICAL if verdict is Verdict.OPEN_CRITICAL else Severity.WARNING
        return _open(now, metric, subject, severity, value, threshold)
    if incident is None:
        return False
    if limits is not None and value is not None and limits.crossed_by(value, limits.warning):
        incident.seen(series[-1].at, {"value": value})
    if verdict is Verdict.ESCALATE:
        assert threshold is not None
        title = _title(metric, label_of(subject), value, threshold.critical)
        incident.escalate(now, title)
        actions.act(incident, threshold, now)
        alerting.tell(incident, EntryKind.ESCALATED)
        return True
    if verdict is Verdict.RESOLVE:
        incident.end(now, _ended(metric, limits, value))
        alerting.tell(incident, EntryKind.RESOLVED)
        return True
    if threshold is not None:
        actions.act_again(incident, threshold, now)
    return False


@later
def _ended(metric: Metric, limits: Limits | None, value: float | None) -> str:
    text = _("Three clear readings.") if limits else _("The threshold was switched off.")
    if value is not None:
        text += " " + _("Now %(value)s.") % {"value": metric.shown(value)}
    return text


def _open(now: datetime, metric: Metric, subject: str, severity: Severity, value: float | None,
          threshold: Threshold | None) -> bool:  # fmt: skip
    assert threshold is not None
    limit = threshold.critical if severity == Severity.CRITICAL else threshold.warning
    kind, _sep, pk = subject.partition(":")
    evidence = {"value": value, "warning": threshold.warning, "critical": threshold.critical}
    label = label_of(subject)
    title = _title(metric, label, value, limit)
    try:
        incident, change = Incident.open(metric.name, kind or Kind.SYSTEM, pk, label, title, severity, now, evidence)
    except IntegrityError:  # a run beside this one was faster
        return False
    actions.act(incident, threshold, now)
    alerting.tell(incident, change)
    return True


@later
def _title(metric: Metric, subject: str, value: float | None, limit: float) -> str:
    """Which metric, how much, beyond which limit, of whom ("": of the whole installation)."""
    values = {"metric": metric.label, "value": metric.shown(value), "limit": metric.limit(limit), "subject": subject}
    if subject:
        return _("%(metric)s of %(subject)s: %(value)s, limit %(limit)s") % values
    return _("%(metric)s: %(value)s, limit %(limit)s") % values


def limits_of(metric: Metric, threshold: Threshold | None) -> Limits | None:
    """Return a threshold in the policy's terms."""
    if threshold is None:
        return None
    return Limits(threshold.warning, threshold.critical, metric.direction is Direction.ABOVE)


def subject_of(incident: Incident) -> str:
    """Return the subject of the samples an incident is about."""
    return "" if incident.subject_kind == Kind.SYSTEM else f"{incident.subject_kind}:{incident.subject_id}"


def account_of(subject: str) -> int | None:
    """Return the account a subject is, or None."""
    kind, _sep, pk = subject.partition(":")
    return int(pk) if kind == Kind.ACCOUNT and pk.isdigit() else None


def label_of(subject: str) -> str:
    """Return how people call a subject."""
    pk = account_of(subject)
    account = Account.objects.filter(pk=pk).first() if pk else None
    return str(account) if account else subject.partition(":")[2]


