"""The forecast on the rows: reads the events, learns, writes what it expects. Runs in `manage.py forecast` alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter

from django.db import transaction
from django.db.models import F, Q

from monitoring.forecasting.history import HABIT, History
from monitoring.forecasting.learner import SESSION_HOURS, Finding, Learner, learn
from monitoring.models import Forecast, ForecastRun
from monitoring.reporting.sessions import states_before
from monitoring.reporting.uptime import Step
from sessions_app import retry
from sessions_app.models import Session, SessionEvent
from sessions_app.states import State
from sessions_app.whatsapp.client import Kind

#: Events looked at: to learn for two weeks, with the habits of the two weeks before the last.
WINDOW = timedelta(days=HABIT + 7)
RETENTION = timedelta(days=30)
_TIMEOUTS = frozenset({Kind.KEEPALIVE_TIMEOUT, Kind.PROBE_FAILED})
_REFUSALS = frozenset({Kind.CONNECT_FAILED, Kind.STREAM_ERROR})

#: at, kind, before, after, reason, code.
_Row = tuple[datetime, str, str, str, str, int | None]


def forecast(now: datetime) -> ForecastRun:
    """Learn from the events until `now` and write the run with its forecasts; return it."""
    began = time.monotonic()
    since = now - WINDOW
    histories = read(since, now)
    begin, end = hours(since), hours(now)
    first = min((history.begin for history in histories.values()), default=end)
    try:
        learner = learn(histories, max(begin, first), end)
    except ImportError:
        return ForecastRun.objects.create(at=now, finding=Finding.NO_LIBRARY)
    run = ForecastRun(
        at=now, finding=learner.finding, days=round((end - max(begin, first)) / 24, 2), hours=learner.hours,
        drops=learner.drops, threshold=learner.threshold, usual=learner.usual, precision=learner.mine.precision,
        recall=learner.mine.recall, yesterday_precision=learner.yesterday.precision,
        yesterday_recall=learner.yesterday.recall, seconds=round(time.monotonic() - began, 2),
    )  # fmt: skip
    with transaction.atomic():
        run.save()
        if run.finding == Finding.GOOD:
            Forecast.objects.bulk_create(expected(run, learner, histories, end), batch_size=500)
    ForecastRun.objects.filter(at__lt=now - RETENTION).delete()
    return run


def expected(run: ForecastRun, learner: Learner, histories: Mapping[int, History], t: float) -> Iterable[Forecast]:
    """Yield the forecast of every session that is connected; without a risk while too little is known of it."""
    known = set(Session.objects.filter(pk__in=histories, state=State.CONNECTED).values_list("pk", flat=True))
    for pk in sorted(known):
        history = histories[pk]
        age = int(t - history.begin)
        row = Forecast(run=run, session_id=pk, at=run.at, hours=age)
        if age >= SESSION_HOURS:
            features = history.features(t)
            row.risk = round(learner.risk(features), 4)
            row.high = row.risk >= learner.threshold
            row.reasons = [[name, round(features[name], 4)] for name in learner.reasons(features)]
        yield row


def read(since: datetime, until: datetime) -> dict[int, History]:
    """Return the history of every session that has events. Two queries; one session's events in memory at a time."""
    before = states_before(since)
    telling = Q(kind__in=[*_TIMEOUTS, *_REFUSALS, Kind.REPLACED]) | (~Q(after="") & ~Q(after=F("before")))
    rows = SessionEvent.objects.filter(telling, at__gt=since, at__lte=until).order_by("session_id", "at", "id")
    events = rows.values_list("session_id", "at", "kind", "before", "after", "reason", "code").iterator(chunk_size=2000)
    found = {
        pk: history_of([row[1:] for row in group], since, until, before.pop(pk, None))
        for pk, group in groupby(events, key=itemgetter(0))
    }
    for pk, step in before.items():  # nothing happened to these
        found[pk] = history_of([], since, until, step)
    return found


def history_of(rows: Iterable[_Row], since: datetime, until: datetime, before: Step | None) -> History:
    """Return the history that events (oldest first) tell; `before`: the state at `since`, if known."""
    history, state, up_since = History(hours(since)), before, hours(since)
    for at, kind, was, after, reason, code in rows:
        t = hours(at)
        if state is None:
            history.begin = up_since = t
            state = Step(at, was)
        if kind in _TIMEOUTS:
            history.timeouts.append(t)
        if code == retry.REPLACED:
            history.conflicts.append(t)
        elif kind in _REFUSALS and code:
            history.refusals.append(t)
        if not after or after == was:
            continue
        step = Step(at, after, reason, code)
        if state.kind == "up" and step.kind != "up":
            history.connected.append((up_since, t))
            if step.kind == "down":
                history.drops.append(t)
        elif state.kind != "up" and step.kind == "up":
            up_since = t
        state = step
    if state is None:
        history.begin = hours(until)
    elif state.kind == "up":
        history.connected.append((up_since, float("inf")))
    return history


def hours(at: datetime) -> float:
    """Return a time as hours since the epoch."""
    return at.timestamp() / 3600
