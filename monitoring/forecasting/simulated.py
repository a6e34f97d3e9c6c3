"""A history whose structure is known, to test the forecast on: seeded, so always the same.

Of the sessions
- half are calm: a drop about every 8 days, at any time;
- a sixth have a router that restarts at night: on 5 of 7 days a drop in the same hour, the days drawn anew each time;
- a sixth have a bad line now and then: about every second day 3 to 12 hours with a drop every 100 minutes or so, each
  announced by missed keep-alives in the hour before and between;
- a sixth are used by a second client in office hours on some days: conflicts (440), one in about two hours of those.
The connection is back after 1 to 4 minutes.
"""

from __future__ import annotations

import random

from monitoring.forecasting.history import DAY, History

BACK = (1 / 60, 4 / 60)


def simulated(sessions: int, days: int, seed: int) -> dict[int, History]:
    """Return histories over `days` days that begin at hour 0."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    kinds = (_calm, _calm, _calm, _router, _line, _office)
    found = {}
    for number in range(sessions):
        history = History(0.0)
        _calm(history, days, dice)
        if (kind := kinds[number % len(kinds)]) is not _calm:
            kind(history, days, dice)
        _finish(history, days, dice)
        found[number + 1] = history
    return found


def _calm(history: History, days: int, dice: random.Random) -> None:
    at = dice.expovariate(1 / (8 * DAY))
    while at < days * DAY:
        history.drops.append(at)
        at += dice.expovariate(1 / (8 * DAY))


def _router(history: History, days: int, dice: random.Random) -> None:
    hour = dice.randrange(DAY)
    for day in range(days):
        if dice.random() < 5 / 7:
            history.drops.append(day * DAY + hour + dice.uniform(0.1, 0.9))


def _line(history: History, days: int, dice: random.Random) -> None:
    at = dice.expovariate(1 / (2 * DAY))
    while at < days * DAY:
        end = at + dice.uniform(3, 12)
        history.timeouts += [at - dice.uniform(0, 1) for _ in range(2)]
        while at < end:
            history.timeouts += [at + dice.uniform(0, 1.5) for _ in range(dice.randrange(3))]
            at += dice.expovariate(0.6)
            history.drops.append(min(at, end))
        at = end + dice.expovariate(1 / (2 * DAY))


def _office(history: History, days: int, dice: random.Random) -> None:
    for day in range(days):
        if dice.random() < 0.4:
            for hour in range(9, 17):
                if dice.random() < 0.5:
                    at = day * DAY + hour + dice.random()
                    history.drops.append(at)
                    history.conflicts.append(at)


def _finish(history: History, days: int, dice: random.Random) -> None:
    end = float(days * DAY)
    for times in (history.drops, history.timeouts, history.conflicts):
        times[:] = sorted(at for at in times if 0 <= at < end)
    begin, kept = 0.0, []
    for at in history.drops:
        if at > begin:  # one that is not connected cannot drop
            history.connected.append((begin, at))
            kept.append(at)
            begin = at + dice.uniform(*BACK)
    history.drops = kept
    history.connected.append((begin, end))
