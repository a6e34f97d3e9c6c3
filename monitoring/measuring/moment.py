"""What a measurement is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

#: Measured, but there was nothing to measure: no requests, no sessions. Neither good nor unknown.
IDLE: Final = "idle"
Value = float | Literal["idle"] | None
#: Subject ("" for the whole server, else "kind:id") -> value; None: it cannot be told.
Measured = Mapping[str, Value]


@dataclass(frozen=True)
class Moment:
    """Measure at `now`, and these accounts by themselves too: those with a threshold of their own."""

    now: datetime
    accounts: frozenset[int] = frozenset()


def account_subject(pk: int) -> str:
    """Return the subject of one account."""
    return f"account:{pk}"
