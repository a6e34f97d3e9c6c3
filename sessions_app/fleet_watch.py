"""Finds, follows and ends fleet causes, on the rows: a host right after failures, live_back every 30 s.

Several processes may do this at once: every change is one conditional statement or guarded by a unique index.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime
from functools import cache
from importlib.metadata import version

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, Q

from accounts.models import Desired
from sessions_app import fleet
from sessions_app.models import FleetCause, Session, SessionEvent
from sessions_app.models.session import SessionQuerySet
from sessions_app.states import LIVE, NEEDS_PAIRING, State
from sessions_app.whatsapp.client import Kind

_log = logging.getLogger(__name__)

#: The observations that count as a failure of a session.
FAILURES = frozenset({Kind.REPLACED, Kind.BANNED, Kind.OUTDATED, Kind.CONNECT_FAILED, Kind.CLIENT_DIED,
                      Kind.PROBE_FAILED, Kind.GRACE_ENDED, Kind.CONNECT_TIMEOUT, Kind.QUERY_TIMEOUT})  # fmt: skip


@cache
def library() -> str:
    """Return the version of the client library, without loading it."""
    return version("neonize")


def watch(now: datetime) -> dict[str, int]:
    """Open, follow and close causes; return the counts. The number of queries depends on that of causes alone."""
    window = fleet.WINDOW * settings.RETRY_TIME_SCALE
    known = list(FleetCause.objects.filter(Q(ended_at=None) | Q(ended_at__gt=now - window)).select_related("trial"))
    ongoing = {cause.code: cause for cause in known if cause.ended_at is None}
    # What failed before a cause ended was part of it and must not open it again.
    ended = {cause.code: cause.ended_at for cause in known if cause.ended_at is not None}
    failures = (
        SessionEvent.objects.filter(at__gt=now - window, kind__in=FAILURES).order_by()
        .values_list("code", "session").annotate(Max("at"))
    )  # fmt: skip
    failing: Counter[int] = Counter()
    for code, _session, at in failures:
        since = ended.get(code or 0)
        failing[code or 0] += since is None or at > since
    opened = 0
    if fresh := {code: count for code, count in failing.items() if count and code not in ongoing}:
        wanted = Session.objects.filter(account__desired=Desired.ONLINE).exclude(state__in=NEEDS_PAIRING).count()
        for code in fleet.detect(fresh, wanted):
            opened += _open(code, fresh[code], now)
    closed = sum(_follow(cause, failing[cause.code], now) for cause in ongoing.values())
    return {"fleet_opened": opened, "fleet_closed": closed}


def _open(code: int, affected: int, now: datetime) -> bool:
    first = _next_trial(_members(code))
    try:
        with transaction.atomic():
            FleetCause.objects.create(code=code, open_code=code, began_at=now, affected=affected, trial=first,
                                      library=library())  # fmt: skip
    except IntegrityError:
        return False  # another process was faster
    _log.error("Fleet cause: %d sessions failed with code %d; only %s is tried until it stays connected", affected,
               code, first)  # fmt: skip
    return True


def _follow(cause: FleetCause, failing: int, now: datetime) -> bool:
    """Choose another trial when this one cannot be it any more; return whether the cause is over."""
    trial, members = cause.trial, _members(cause.code)
    affected = max(cause.affected, failing, members.count())
    if affected > cause.affected:
        FleetCause.objects.filter(pk=cause.pk, affected=cause.affected).update(affected=affected)
    if trial is not None and _has_succeeded(trial, now):
        _log.warning("Fleet cause %d is over: %s stays connected, the others follow", cause.code, trial)
        return cause.close(now, "trial_succeeded")
    if trial is not None and _can_be_trial(trial, cause.code, members):
        return False
    following = _next_trial(members)
    if following is None:
        return cause.close(now, "nobody_left")
    cause.choose_trial(following.pk)
    return False


def _members(code: int) -> SessionQuerySet:
    return Session.objects.wanted_online().filter(state__in=fleet.FAILED, attempts__gt=0, code=code or None)


def _next_trial(members: SessionQuerySet) -> Session | None:
    """Return the member that may be tried soonest: one that a host owns, if any does."""
    order = ("retry_at", "pk")
    return members.filter(host__isnull=False).order_by(*order).first() or members.order_by(*order).first()


def _has_succeeded(trial: Session, now: datetime) -> bool:
    since = trial.connected_at
    return trial.state == State.CONNECTED and since is not None and (
        now - since >= fleet.STAYS * settings.RETRY_TIME_SCALE)  # fmt: skip


def _can_be_trial(trial: Session, code: int, members: SessionQuerySet) -> bool:
    if not Session.objects.wanted_online().filter(pk=trial.pk).exists():
        return False
    if trial.host_id is None and members.filter(host__isnull=False).exists():
        return False  # nobody may have room for it, and the others wait
    return trial.state in LIVE | {State.STOPPED} or (trial.state in fleet.FAILED and (trial.code or 0) == code)
