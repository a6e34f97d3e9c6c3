"""A cause common to many sessions, and what it means for each of them: pure. DESIGN.md "Fleet cause" is its source.

When a fifth of the sessions, and at least 3, fail with one code within 2 minutes, the cause lies elsewhere than with
each of them: starts drop to one trial session until that one stays connected, then the others follow staggered. 405
says that WhatsApp rejects this client version: one session is enough to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sessions_app import retry
from sessions_app.states import State

SHARE, LEAST, WINDOW = 1 / 5, 3, timedelta(minutes=2)
#: A trial that stayed connected for so long has succeeded.
STAYS = timedelta(seconds=15)
#: Between the starts of two sessions that are let go, but all within a minute.
GAP, SPREAD = timedelta(seconds=0.1), timedelta(minutes=1)
#: The states a failed session waits in for its next attempt.
FAILED = frozenset({State.WAITING, State.BANNED, State.OUTDATED})


@dataclass(frozen=True)
class Cause:
    """A cause that is or was at work. `trial` is the id of the one session that may start meanwhile."""

    id: int
    code: int
    ended_at: datetime | None = None
    trial: int | None = None
    affected: int = 1
    library: str = ""  # version of the client library it began with


@dataclass(frozen=True)
class Failed:
    """A session that failed and waits. `attempts` of 0: staff want it now, whatever happened before."""

    id: int
    state: State
    code: int
    attempts: int
    failed_at: datetime
    retry_at: datetime | None


@dataclass(frozen=True)
class Verdict:
    """When it may be tried, and the cause that holds it back until then or that it is the trial of."""

    retry_at: datetime | None
    held_by: Cause | None = None
    trial_of: Cause | None = None


def detect(failing: Mapping[int, int], sessions: int) -> list[int]:
    """Return the codes that are a fleet cause.

    `failing` counts the different sessions that failed with each code within the window, of `sessions` wanted online.
    """
    least = max(LEAST, math.ceil(sessions * SHARE))
    return [code for code, count in sorted(failing.items()) if count >= (1 if code == retry.OUTDATED else least)]


def judge(session: Failed, causes: Iterable[Cause], library: str = "") -> Verdict:
    """Return what the causes mean for one session; its own wait counts as well: the later of both.

    405 is the exception, a verdict on the client version and not on the account: a new version may be tried at once, by
    the trial, and when that is accepted the others need not wait their 6 h.
    """
    verdict = Verdict(session.retry_at)
    if session.state not in FAILED or not session.attempts:
        return verdict
    for cause in causes:
        if cause.code != session.code:
            continue
        if cause.ended_at is None:
            if cause.trial != session.id:
                return Verdict(session.retry_at, held_by=cause)
            renewed = cause.code == retry.OUTDATED and library not in ("", cause.library)
            # A new library has not failed yet: its first verdict is younger than its start.
            return Verdict(None if renewed else session.retry_at, trial_of=cause)
        if session.failed_at <= cause.ended_at:
            free = cause.ended_at + _turn(session.id, cause.affected)
            own = session.retry_at if cause.code != retry.OUTDATED else None
            verdict = Verdict(free if own is None else max(free, own))
    return verdict


def _turn(session: int, affected: int) -> timedelta:
    """Return how long after the end of the cause a session is let go: spread by its id."""
    return min(GAP, SPREAD / max(1, affected)) * (session % max(1, affected))
