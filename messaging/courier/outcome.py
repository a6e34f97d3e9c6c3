"""What becomes of a message after an attempt to send it: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sessions_app.whatsapp.client import NotSent

#: Attempts that certainly failed, before a message is given up; the waits between them double from the first.
ATTEMPTS = 8
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=10)
#: WhatsApp says that an account is restricted, not for how long: people it has no conversation with wait so long.
RESTRICTION = timedelta(hours=24)
#: The number WhatsApp gives then.
RESTRICTED = frozenset({463})


class Next(StrEnum):
    """What to do with it."""

    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True)
class Verdict:
    """What to do, when, and why. `pause_until`: so long the account writes to no cold contact."""

    what: Next
    at: datetime
    code: str
    sentence: str
    pause_until: datetime | None = None


def judge(error: NotSent, attempts: int, cold: bool, now: datetime) -> Verdict:
    """Return what becomes of a message that was certainly not sent, at its `attempts`th attempt."""
    if error.number in RESTRICTED:
        until = now + RESTRICTION
        if cold and attempts < ATTEMPTS:
            return Verdict(Next.RETRY, until, "contacts_paused", str(error), until)
        return Verdict(Next.FAIL, now, error.code, str(error), until)
    if not error.retryable:
        return Verdict(Next.FAIL, now, error.code, str(error))
    if attempts >= ATTEMPTS:
        return Verdict(Next.FAIL, now, "attempts_exhausted", f"It was tried {attempts} times. {error}")
    return Verdict(Next.RETRY, now + wait(attempts), error.code, str(error))


def wait(attempts: int) -> timedelta:
    """Return how long to wait after the `attempts`th failure: 5 s, 10 s, 20 s, ... 10 minutes at most."""
    doubled: int = 2 ** min(max(0, attempts - 1), 16)  # a time difference does not hold every number
    return min(FIRST_WAIT * doubled, LONGEST_WAIT)
