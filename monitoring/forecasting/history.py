"""The past of one session as numbers: pure. Times are hours since the epoch, as floats."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

DAY = 24
#: Days looked back for the habits of an hour of the day.
HABIT = 14


@dataclass
class History:
    """What happened to one session; every list is sorted. `begin`: since when anything is known of it.

    `drops` are connections lost that nobody asked for; `timeouts` keep-alives and probes unanswered; `conflicts` other
    clients with the same keys (440); `refusals` log-ins and streams refused with a code; `connected` the spans of time
    it was connected, the last one without an end when it still is.
    """

    begin: float
    drops: list[float] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    conflicts: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    connected: list[tuple[float, float]] = field(default_factory=list)

    def at_risk(self, t: float) -> bool:
        """Return whether it was connected at `t`, so that it could lose the connection."""
        number = bisect_right(self.connected, (t, math.inf)) - 1
        return number >= 0 and self.connected[number][0] <= t < self.connected[number][1]

    def drops_within(self, t: float) -> bool:
        """Return whether it lost its connection within the hour that begins at `t`."""
        return between(self.drops, t, t + 1) > 0

    def features(self, t: float) -> dict[str, float]:
        """Return what was known at `t`: nothing later is looked at."""
        drops_day = between(self.drops, t - DAY, t)
        seen, same = 0, 0
        for day in range(1, HABIT + 1):
            then = t - DAY * day
            if then < self.begin:
                break
            seen += 1
            same += self.drops_within(then)
        week = between(self.drops, t - 7 * DAY, t)
        known = max(1.0, min(t - self.begin, 7.0 * DAY))
        rate = min(1.0, week / known)
        last = bisect_left(self.drops, t) - 1
        since = t - self.drops[last] if last >= 0 else t - self.begin
        angle = 2 * math.pi * (t % DAY) / DAY
        return {
            "drops_hour": math.log1p(between(self.drops, t - 1, t)),
            "drops_six": math.log1p(between(self.drops, t - 6, t)),
            "drops_day": math.log1p(drops_day),
            "timeouts_hour": math.log1p(between(self.timeouts, t - 1, t)),
            "timeouts_six": math.log1p(between(self.timeouts, t - 6, t)),
            "conflicts_day": math.log1p(between(self.conflicts, t - DAY, t)),
            "refusals_day": math.log1p(between(self.refusals, t - DAY, t)),
            "habit": (same + 2 * rate) / (seen + 2),  # the hour's own share, drawn to the session's while days are few
            "yesterday": float(seen > 0 and self.drops_within(t - DAY)),
            "rate": rate,
            "quiet": math.log1p(max(0.0, since)),
            "morning": math.sin(angle),
            "midday": math.cos(angle),
        }  # fmt: skip


def between(times: Sequence[float], begin: float, end: float) -> int:
    """Return how many of the sorted `times` lie in [begin, end)."""
    return bisect_left(times, end) - bisect_left(times, begin)


#: All that `features` returns.
FEATURES = tuple(History(0.0).features(0.0))
