"""The accounts' part of the report: uptime of each, reconnects by code, losses by the hour. Three queries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.models import F, OuterRef, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.reporting.shape import AccountPart, ReconnectPart
from monitoring.reporting.uptime import Loss, Step, Uptime, uptime
from sessions_app.models import Session, SessionEvent
from sessions_app.states import State

#: What a code means, for people.
MEANINGS: dict[int | None, Any] = {
    None: lazy("connection dropped, no code"),
    401: lazy("logged out"),
    402: lazy("banned for a time"),
    403: lazy("the phone's registration is gone"),
    405: lazy("client outdated"),
    408: lazy("no answer in time"),
    440: lazy("replaced: another client uses the same keys"),
    500: lazy("WhatsApp: internal error"),
    503: lazy("WhatsApp: service unavailable"),
    515: lazy("restart asked for by WhatsApp"),
}


@dataclass
class SessionsPart:
    """What was found."""

    accounts: list[AccountPart] = field(default_factory=list)
    reconnects: list[ReconnectPart] = field(default_factory=list)
    uptime: float | None = None
    lost_at: Counter[datetime] = field(default_factory=Counter)  # by the hour
    unknown: bool = False  # of some account a part of the time is not known


def sessions_part(since: datetime, until: datetime) -> SessionsPart:
    """Return how every account did. The events are read once, one session's at a time."""
    found, losses, total = SessionsPart(), defaultdict[int | None, list[Loss]](list), Uptime()
    sessions = {row.pk: row for row in Session.objects.select_related("account").order_by("account__label")}
    before = states_before(since)
    uptimes: dict[int, Uptime] = {}
    for pk, rows in groupby(_changes(since, until), key=itemgetter(0)):
        steps = list(rows)
        if pk in sessions:
            first = before.get(pk) or _lasting(since, steps[0][2])
            uptimes[pk] = uptime([_step(row) for row in steps], since, until, first)
    for pk, session in sessions.items():
        one = uptimes.get(pk) or uptime([], since, until, before.get(pk) or _still(session, since))
        found.accounts.append(_account(session, one))
        found.unknown |= one.unknown > timedelta(0)
        total.up += one.up
        total.down += one.down
        for loss in one.losses:
            losses[loss.code].append(loss)
            found.lost_at[loss.at.replace(minute=0, second=0, microsecond=0)] += 1
    found.uptime = _rounded(total.share, 6)
    found.reconnects = [_reconnect(code, losses[code]) for code in sorted(losses, key=lambda c: -len(losses[c]))]
    return found


#: session, at, before, after, reason, code.
_Row = tuple[int, datetime, str, str, str, int | None]


def _changes(since: datetime, until: datetime) -> Iterator[_Row]:
    rows = SessionEvent.objects.filter(at__gt=since, at__lte=until).exclude(after="").exclude(after=F("before"))
    return rows.order_by("session_id", "at", "id").values_list(
        "session_id", "at", "before", "after", "reason", "code"
    ).iterator(chunk_size=2000)  # fmt: skip


def _step(row: _Row) -> Step:
    return Step(at=row[1], state=row[3], reason=row[4], code=row[5])


def states_before(since: datetime) -> dict[int, Step]:
    """Return the state each session was in at `since`, as far as events tell."""
    changes = SessionEvent.objects.exclude(after="").exclude(after=F("before"))
    mine = changes.filter(session=OuterRef("pk"), at__lte=since)
    last = Session.objects.annotate(last=Subquery(mine.order_by("-id").values("pk")[:1])).values("last")
    rows = SessionEvent.objects.filter(pk__in=last).values_list("session_id", "at", "before", "after", "reason", "code")
    return {row[0]: _step(row) for row in rows}


def _lasting(since: datetime, state: str) -> Step | None:
    """Return the state before the first event there is, if it is one that lasts: its own event is no longer kept."""
    return Step(since, state) if state in (State.CONNECTED, State.UNPAIRED) else None


def _still(session: Session, since: datetime) -> Step | None:
    """Return the state it has had since before `since`, if it has not changed."""
    if session.state_changed_at > since:
        return None
    return Step(session.state_changed_at, session.state, session.reason, session.code)


def _account(session: Session, one: Uptime) -> AccountPart:
    return {
        "id": session.account_id, "label": session.account.label, "state": session.state,
        "uptime": _rounded(one.share, 6), "up": _seconds(one.up), "down": _seconds(one.down),
        "excused": _seconds(one.excused), "unknown": _seconds(one.unknown), "losses": len(one.losses),
        "longest_outage": _seconds(one.longest),
    }  # fmt: skip


def _reconnect(code: int | None, losses: Sequence[Loss]) -> ReconnectPart:
    times = sorted(loss.back_after.total_seconds() for loss in losses if loss.back_after is not None)
    return {
        "code": code, "meaning": str(MEANINGS.get(code) or _("code %(code)s of WhatsApp") % {"code": code}),
        "lost": len(losses), "back": len(times), "median": share_of(times, 0.5), "p95": share_of(times, 0.95),
    }  # fmt: skip


def share_of(ordered: Sequence[float], share: float) -> float | None:
    """Return the value that `share` of `ordered` lies at or below; None of nothing."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1) if ordered else None


def _seconds(time: timedelta) -> float:
    return round(time.total_seconds(), 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
