"""When to try again: pure, as a table. DESIGN.md "Retry policy" is its source.

Nothing here reads a clock or draws a number: `now` and `jitter` are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

TIMEOUT, REPLACED, RESTART, BANNED, LOGGED_OUT, FORBIDDEN, OUTDATED = 408, 440, 515, 402, 401, 403, 405
#: The row for every code without one of its own.
OTHER = 0


@dataclass(frozen=True)
class Rule:
    """One row: the delay after the first failure, its growth per further failure, and its upper bound."""

    first: timedelta
    growth: float
    cap: timedelta
    jitter: float = 0.2  # up to this share is added, so that many sessions do not come back in one instant


_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

#: Code -> rule. None: no attempt helps, a person must pair again.
DEFAULTS: Mapping[int, Rule | None] = {
    TIMEOUT: Rule(15 * _SECOND, 2, 5 * _MINUTE),
    REPLACED: Rule(30 * _SECOND, 2, 10 * _MINUTE),
    RESTART: Rule(0 * _SECOND, 2, 5 * _MINUTE),
    BANNED: Rule(1 * _HOUR, 1, 1 * _HOUR),  # only where WhatsApp does not say until when
    LOGGED_OUT: None,
    FORBIDDEN: None,
    OUTDATED: Rule(6 * _HOUR, 1, 6 * _HOUR),
    OTHER: Rule(8 * _SECOND, 2, 5 * _MINUTE),
}

JITTER = Rule.jitter
#: A connection that lasted this long starts again at the first delay.
STABLE = timedelta(seconds=60)
#: The third replacement within this time means that another client uses the keys.
CONFLICT_LIMIT, CONFLICT_SPAN = 3, timedelta(minutes=30)
#: The circuit breaker: so many failures in so short a time open it for so long, then one trial.
BREAKER_LIMIT, BREAKER_SPAN, BREAKER_PAUSE = 5, timedelta(minutes=5), timedelta(minutes=10)
#: Failures are remembered this long.
MEMORY = CONFLICT_SPAN


@dataclass(frozen=True)
class Failure:
    """One failed attempt or lost connection."""

    at: datetime
    code: int


@dataclass(frozen=True)
class Next:
    """What follows a failure: the next attempt, or a hold that needs a person."""

    retry_at: datetime | None
    hold: str = ""  # "conflict": another client uses these keys
    breaker_open: bool = False


def after_failure(
    failures: Sequence[Failure],
    attempts: int,
    now: datetime,
    jitter: float,
    *,
    breaker_open: bool = False,
    banned_until: datetime | None = None,
    rules: Mapping[int, Rule | None] = DEFAULTS,
    scale: float = 1.0,
) -> Next:
    """Return what follows the last of `failures`.

    `failures` are those remembered, oldest first; `attempts` counts those since the last stable connection, the last
    included; `jitter` lies between 0 and 1; `scale` multiplies every time (tests and drills make it smaller).
    """
    code = failures[-1].code
    rule = rules.get(code, rules[OTHER])
    if rule is None:
        return Next(None)
    if code == BANNED and banned_until is not None:
        return Next(max(banned_until, now) + rule.first * scale * 0.01 * jitter)
    if code == REPLACED:
        attempts = _within(failures, now, CONFLICT_SPAN * scale, REPLACED)
        if attempts >= CONFLICT_LIMIT:
            return Next(None, hold="conflict")
    transient = code not in (BANNED, OUTDATED, REPLACED)
    if transient and (breaker_open or _within(failures, now, BREAKER_SPAN * scale) >= BREAKER_LIMIT):
        return Next(now + _spread(BREAKER_PAUSE * scale, rule, jitter), breaker_open=True)
    return Next(now + _spread(delay(rule, attempts) * scale, rule, jitter))


def delay(rule: Rule, attempts: int) -> timedelta:
    """Return the delay after the `attempts`th failure in a row, without jitter."""
    if rule.growth <= 1 or not rule.first:
        return min(rule.first, rule.cap)
    doublings = min(attempts - 1, math.ceil(math.log(rule.cap / rule.first, rule.growth)) if rule.first else 0)
    return min(rule.first * rule.growth ** max(doublings, 0), rule.cap)


def is_stable(connected_at: datetime | None, now: datetime, scale: float = 1.0) -> bool:
    """Return whether a connection that began at `connected_at` has lasted long enough to forget earlier failures."""
    return connected_at is not None and now - connected_at >= STABLE * scale


def _within(failures: Sequence[Failure], now: datetime, span: timedelta, code: int | None = None) -> int:
    return sum(1 for failure in failures if now - failure.at <= span and code in (None, failure.code))


def _spread(plain: timedelta, rule: Rule, jitter: float) -> timedelta:
    return plain * (1 + rule.jitter * jitter)
