"""What is known of one program's starts and ends, and when a crash loop is given a rest. Pure: times are passed in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: So many unexpected ends within so many seconds are a crash loop: the same numbers as a session's circuit breaker.
LOOP, LOOP_SECONDS = 5, 300.0
#: Seconds a program is left alone after a crash loop, doubled each time it happens again, to the cap.
REST, REST_CAP = 30.0, 300.0
#: A program that ran for so long has recovered.
STABLE = 120.0
_REMEMBERED = 20


@dataclass
class Record:
    """One program. Times are Unix seconds."""

    state: str = "stopped"  # supervisord's, in small letters; fatal: it is given a rest until `retry_at`
    pid: int = 0
    started_at: float | None = None
    starts: int = 0  # since the tree was started
    crashes: list[float] = field(default_factory=list)
    last_exit: str = ""
    rests: int = 0  # in a row
    retry_at: float | None = None

    @property
    def restarts(self) -> int:
        """Return how often it was started again."""
        return max(0, self.starts - 1)

    def saw(self, state: str, now: float, pid: int = 0, expected: bool = True) -> None:
        """Take one of supervisord's state changes in."""
        if state == "starting":
            self.starts += 1
            self.started_at, self.retry_at = now, None
        if state == "backoff" or (state == "exited" and not expected):
            self.crashes = [*self.crashes, now][-_REMEMBERED:]
        if state == "fatal":
            self.give_rest(now)
        self.state, self.pid = state, pid if state in ("starting", "running", "stopping") else 0

    def in_crash_loop(self, now: float) -> bool:
        """Return whether it ended too often of late."""
        return sum(1 for at in self.crashes if now - at < LOOP_SECONDS) >= LOOP

    def give_rest(self, now: float) -> None:
        """Leave it alone for a while."""
        self.rests += 1
        self.state = "fatal"
        self.retry_at = now + min(REST_CAP, REST * 2 ** (self.rests - 1))

    def is_due(self, now: float) -> bool:
        """Return whether its rest is over."""
        return self.retry_at is not None and now >= self.retry_at

    def settle(self, now: float) -> bool:
        """Forget earlier rests once it has run for STABLE; return whether that changed anything."""
        if self.state == "running" and self.rests and self.started_at and now - self.started_at > STABLE:
            self.rests = 0
            return True
        return False

    def as_json(self) -> dict[str, Any]:
        """Return it for the file."""
        return asdict(self)
