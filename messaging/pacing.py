"""How fast an account may write, so that it stays welcome: pure. The caller brings the clock, the past and the dice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

#: People an account may newly write to per day, by the days since it was paired; older ones have only their daily cap.
WARM_UP = (20, 30, 50, 80, 120, 180, 270, 400, 600, 800)

#: Typing is shown for so long: a base, and a share per character; never longer than the cap.
_TYPING_BASE, _TYPING_PER_CHARACTER, _TYPING_CAP = 0.8, 0.05, 8.0


@dataclass(frozen=True)
class Pace:
    """The limits of one account."""

    per_minute: int = 30
    gap: timedelta = timedelta(seconds=1)
    jitter: float = 0.5  # share of the gap that is added at most
    daily_cap: int = 1000  # cold contacts per day
    quiet_from: time | None = None  # local time; with quiet_until before it, over midnight
    quiet_until: time | None = None
    warm_up: bool = True
    typing: bool = False
    enabled: bool = True


#: No limit at all.
UNPACED = Pace(enabled=False, warm_up=False)


@dataclass
class Past:
    """What an account did lately. The sender keeps it up to date with `note`."""

    sent: deque[datetime] = field(default_factory=deque)  # of the last minute, oldest first
    cold_day: deque[datetime] = field(default_factory=deque)  # to cold contacts, of the last 24 h, oldest first
    paired_at: datetime | None = None
    paused_until: datetime | None = None  # no cold contact before

    def note(self, at: datetime, cold: bool) -> None:
        """Remember one that was handed over."""
        self.sent.append(at)
        if cold:
            self.cold_day.append(at)

    def forget(self, now: datetime) -> None:
        """Drop what no rule looks at any more."""
        while self.sent and now - self.sent[0] >= MINUTE and len(self.sent) > 1:  # the last one counts for the gap
            self.sent.popleft()
        while self.cold_day and now - self.cold_day[0] >= DAY:
            self.cold_day.popleft()


@dataclass(frozen=True)
class Turn:
    """When a message may go: not after now when it may go now; else `code`, one of messaging.errors, says why not."""

    at: datetime
    code: str = ""


def turn(pace: Pace, past: Past, now: datetime, *, cold: bool, dice: float) -> Turn:
    """Return when the next message may go. `now` in the time zone of the quiet hours, `dice` in [0, 1).

    A restriction by WhatsApp (`paused_until`) holds cold contacts back even where pacing is off.
    """
    waits = [Turn(now)]
    if cold and past.paused_until is not None and past.paused_until > now:
        waits.append(Turn(past.paused_until, "contacts_paused"))
    past.forget(now)
    if pace.enabled:
        recent = [at for at in past.sent if now - at < MINUTE]
        if past.sent:
            waits.append(Turn(past.sent[-1] + pace.gap * (1 + pace.jitter * dice), "paced"))
        if len(recent) >= pace.per_minute:
            waits.append(Turn(recent[-pace.per_minute] + MINUTE, "paced"))
        if cold and len(past.cold_day) >= (cap := cold_cap(pace, past.paired_at, now)):
            waits.append(Turn(past.cold_day[-cap] + DAY, "daily_cap"))
        if (until := quiet_until(pace, now)) is not None:
            waits.append(Turn(until, "quiet_hours"))
    latest = max(waits, key=lambda wait: wait.at)
    return latest if latest.at > now else Turn(now)


def cold_cap(pace: Pace, paired_at: datetime | None, now: datetime) -> int:
    """Return how many cold contacts may be written to within 24 h."""
    if not pace.warm_up or paired_at is None:
        return pace.daily_cap
    days = max(0, (now - paired_at) // DAY)
    return min(pace.daily_cap, WARM_UP[days]) if days < len(WARM_UP) else pace.daily_cap


def quiet_until(pace: Pace, now: datetime) -> datetime | None:
    """Return when the quiet hours end that `now` is in, or None."""
    begin, end = pace.quiet_from, pace.quiet_until
    if begin is None or end is None or begin == end:
        return None
    local = now.time()
    inside = begin <= local < end if begin < end else local >= begin or local < end
    if not inside:
        return None
    today = now.replace(hour=end.hour, minute=end.minute, second=end.second, microsecond=0)
    return today if today > now else today + DAY


def typing_time(text: str, dice: float) -> timedelta:
    """Return how long a person would type this, `dice` in [0, 1) for variation of a quarter either way."""
    seconds = min(_TYPING_BASE + _TYPING_PER_CHARACTER * len(text), _TYPING_CAP)
    return timedelta(seconds=seconds * (0.75 + dice / 2))
