"""When a reading is bad, and what follows from the last ones: pure. DESIGN.md "Health" is its source.

Two breaches in a row open, three clear readings resolve. What is missing or old is unknown: it opens nothing, it
resolves nothing, and it is never good. No clock is read here; `now` is passed in, and readings from the future (a clock
that jumped back) do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: Readings are taken this far apart.
INTERVAL = timedelta(seconds=30)
#: A reading older than this says nothing about now, and two further apart than this are not in a row.
STALE = 3 * INTERVAL
#: A reading may be this far ahead of `now`: clocks of two machines.
AHEAD = timedelta(seconds=5)
BREACHES, CLEAR = 2, 3


class Level(StrEnum):
    """What a reading means."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    IDLE = "idle"  # measured, but there was nothing to measure
    PLAIN = "plain"  # there is no threshold to hold it against
    UNKNOWN = "unknown"


BAD = frozenset({Level.WARNING, Level.CRITICAL})


@dataclass(frozen=True)
class Reading:
    """One reading; `value` None: there was nothing to measure."""

    at: datetime
    value: float | None


@dataclass(frozen=True)
class Limits:
    """A threshold; `above`: values above it are bad, else those below."""

    warning: float
    critical: float
    above: bool = True

    def crossed_by(self, value: float, limit: float) -> bool:
        """Return whether `value` is beyond `limit`."""
        return value > limit if self.above else value < limit


class Verdict(StrEnum):
    """What is to be done about an incident."""

    NOTHING = "nothing"
    OPEN_WARNING = "open_warning"
    OPEN_CRITICAL = "open_critical"
    ESCALATE = "escalate"
    RESOLVE = "resolve"


def level(reading: Reading, limits: Limits | None) -> Level:
    """Return what a reading means, whatever its age."""
    if reading.value is None:
        return Level.IDLE
    if limits is None:
        return Level.PLAIN
    if limits.crossed_by(reading.value, limits.critical):
        return Level.CRITICAL
    return Level.WARNING if limits.crossed_by(reading.value, limits.warning) else Level.OK


def current(readings: Sequence[Reading], now: datetime) -> Reading | None:
    """Return the newest of `readings` (oldest first) that speaks for now, or None."""
    past = [reading for reading in readings if reading.at <= now + AHEAD]
    return past[-1] if past and now - past[-1].at < STALE else None


def in_a_row(readings: Sequence[Reading], now: datetime, wanted: int) -> list[Reading]:
    """Return the last `wanted` readings without a gap between them, newest last; fewer when there are fewer."""
    newest = current(readings, now)
    if newest is None:
        return []
    row = [newest]
    for reading in reversed([r for r in readings if r.at < newest.at]):
        if len(row) == wanted or row[0].at - reading.at >= STALE:
            break
        row.insert(0, reading)
    return row


def judge(readings: Sequence[Reading], limits: Limits | None, now: datetime, standing: Level | None) -> Verdict:
    """Return what follows from the last readings (oldest first).

    `standing` is the severity of the incident that is open, or None. Without limits an open incident is resolved:
    nobody calls this bad any more.
    """
    if limits is None:
        return Verdict.RESOLVE if standing else Verdict.NOTHING
    levels = [level(reading, limits) for reading in in_a_row(readings, now, CLEAR)]
    last = levels[-BREACHES:]
    breached = len(last) == BREACHES and BAD.issuperset(last)
    critical = breached and set(last) == {Level.CRITICAL}
    if standing is None:
        return Verdict.OPEN_CRITICAL if critical else Verdict.OPEN_WARNING if breached else Verdict.NOTHING
    if critical and standing is Level.WARNING:
        return Verdict.ESCALATE
    return Verdict.RESOLVE if len(levels) == CLEAR and BAD.isdisjoint(levels) else Verdict.NOTHING
