"""What the events of one session say about a stretch of time: pure.

Time is up while connected; excused while nobody expected a connection (not paired, being paired, stopped or logged out
by staff); unknown while no event tells; and down otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sessions_app.states import State

#: These expect no connection, whatever led to them.
_EXCUSED = frozenset({State.UNPAIRED, State.PAIRING})
#: Nor do these, when staff wanted it.
_ON_REQUEST = frozenset({State.STOPPED, State.LOGGED_OUT})
_BY_STAFF = "by_staff"


@dataclass(frozen=True)
class Step:
    """A session went into `state` at `at`, because of `reason`, with `code`."""

    at: datetime
    state: str
    reason: str = ""
    code: int | None = None

    @property
    def kind(self) -> str:
        """Return "up", "excused" or "down"."""
        if self.state == State.CONNECTED:
            return "up"
        excused = self.state in _EXCUSED or (self.state in _ON_REQUEST and self.reason == _BY_STAFF)
        return "excused" if excused else "down"


@dataclass(frozen=True)
class Loss:
    """A connection that was lost: with which code (None: none was given), and after how long it was back, if it was."""

    at: datetime
    code: int | None
    back_after: timedelta | None


@dataclass
class Uptime:
    """How long it was what; outages that last are in `losses` without `back_after`."""

    up: timedelta = timedelta(0)
    down: timedelta = timedelta(0)
    excused: timedelta = timedelta(0)
    unknown: timedelta = timedelta(0)
    longest: timedelta = timedelta(0)  # stretch of being down
    losses: list[Loss] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Return the share of the time it should have been up that it was; None when there was none."""
        expected = self.up + self.down
        return self.up / expected if expected else None


def uptime(steps: Iterable[Step], since: datetime, until: datetime, before: Step | None) -> Uptime:
    """Return what `steps` (oldest first, within the stretch) say. `before`: the last one before `since`, if known."""
    found = Uptime()
    now: Step | None = before
    at, lost_at, code = since, None, None
    outage = timedelta(0)
    for step in [*steps, Step(until, "")]:
        spent = max(step.at - at, timedelta(0))
        kind = now.kind if now is not None else "unknown"
        setattr(found, kind, getattr(found, kind) + spent)
        outage = outage + spent if kind == "down" else timedelta(0)
        found.longest = max(found.longest, outage)
        at = max(at, step.at)
        if not step.state:
            break
        if kind == "up" and step.kind == "down":
            lost_at, code = step.at, step.code
        elif lost_at is not None:
            code = code or step.code  # a drop's own code often comes only with the attempts after it
            if step.kind != "down":
                back = step.at - lost_at if step.kind == "up" else None
                found.losses.append(Loss(lost_at, code, back))
                lost_at = None
        now = step
    if lost_at is not None:
        found.losses.append(Loss(lost_at, code, None))
    return found
