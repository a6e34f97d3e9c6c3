"""What came of one task of maintenance."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Lines to read, troubles a person has to look at (each says what to do), and figures."""

    lines: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
