"""When a webhook is tried again, and when it is given up: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

SECOND = timedelta(seconds=1)

#: Pause after the first, second, ... failure; the last one repeats.
PAUSES = (5 * SECOND, 30 * SECOND, 120 * SECOND, 600 * SECOND, 1800 * SECOND, 3600 * SECOND, 7200 * SECOND)
#: A receiver may ask for at most this much patience.
_LONGEST_RETRY_AFTER = timedelta(hours=1)
#: The receiver says that this address is no more.
GONE = 410


@dataclass(frozen=True)
class Verdict:
    """What follows from an attempt: delivered, given up, or tried again at `next_at`."""

    delivered: bool = False
    dead: bool = False
    gone: bool = False
    next_at: datetime | None = None


def judge(code: int | None, attempts: int, first_at: datetime, now: datetime, give_up: timedelta, *,
          retry_after: str = "", jitter: float = 0.0) -> Verdict:  # fmt: skip
    """Return what follows. `code` is the HTTP status, None without an answer; `jitter` in [0, 1) adds up to a fifth."""
    if code is not None and 200 <= code < 300:
        return Verdict(delivered=True)
    if code == GONE:
        return Verdict(dead=True, gone=True)
    pause = PAUSES[min(attempts, len(PAUSES)) - 1] * (1 + jitter / 5)
    if retry_after.isascii() and retry_after.isdigit():
        pause = max(pause, min(int(retry_after[:6]) * SECOND, _LONGEST_RETRY_AFTER))
    if now + pause - first_at > give_up:
        return Verdict(dead=True)
    return Verdict(next_at=now + pause)
