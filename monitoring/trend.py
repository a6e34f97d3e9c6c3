"""Where a value is heading: a straight line by least squares, with how sure it is. Pure.

It is silent where there is too little data, where the slope may as well be chance, and about times further away than
three times what was observed. Readings seconds apart move together and would feign certainty, so means of longer
stretches are fitted. After a sudden fall (a restart) only what came later counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: Means that are fitted: at least, at most.
FEWEST, MOST = 6, 48
#: Nothing is said about less time than this.
SHORTEST = timedelta(hours=1)
#: A slope is taken for real from this probability on.
SURE = 0.95
#: A fall between two means by more than this share of the limit is a restart.
FALL = 0.05
#: A forecast reaches so many times further than what was observed.
REACH = 3


class Finding(StrEnum):
    """What a trend says."""

    TOO_LITTLE = "too_little"  # data
    NONE = "none"  # no slope that is not chance, or a falling one
    FAR = "far"  # rising, but the limit is further away than can be told
    NEAR = "near"  # rising, and the limit is in reach
    BEYOND = "beyond"  # beyond the limit already


@dataclass(frozen=True)
class Trend:
    """`slope` is per hour; `confidence` the probability that it is above 0; `at` when the limit is met, with 95 %
    between `earliest` and `latest` (None: perhaps never). `span`: the time that was fitted, `points` the means."""

    finding: Finding
    span: timedelta = timedelta(0)
    points: int = 0
    value: float | None = None
    slope: float | None = None
    fit: float | None = None  # R², 0 to 1
    confidence: float | None = None
    at: datetime | None = None
    earliest: datetime | None = None
    latest: datetime | None = None


def trend(readings: Sequence[tuple[datetime, float]], limit: float, now: datetime) -> Trend:
    """Return where `readings` (oldest first) are heading, towards `limit` from below."""
    means = _after_the_last_fall(_means([r for r in readings if r[0] <= now]), FALL * abs(limit))
    if len(means) < FEWEST or (span := means[-1][0] - means[0][0]) < SHORTEST:
        return Trend(Finding.TOO_LITTLE, points=len(means))
    x = [(at - now).total_seconds() / 3600 for at, _ in means]
    y = [value for _, value in means]
    slope, level, error, fit = _line(x, y)
    confidence = _probability(slope / error, len(x) - 2) if error > 0 else float(slope > 0)
    found = Trend(Finding.NONE, span, len(means), level, slope, fit, confidence)
    if level >= limit:
        return _with(found, Finding.BEYOND)
    if slope <= 0 or confidence < SURE:
        return found
    margin = _quantile(0.975, len(x) - 2) * error
    meets = _hours((limit - level) / slope)
    if meets > REACH * span:
        return _with(found, Finding.FAR)
    slow = slope - margin
    return Trend(
        Finding.NEAR, span, len(means), level, slope, fit, confidence, at=now + meets,
        earliest=now + _hours((limit - level) / (slope + margin)),
        latest=now + _hours((limit - level) / slow) if slow > 0 else None,
    )  # fmt: skip


def _with(found: Trend, finding: Finding) -> Trend:
    return Trend(finding, found.span, found.points, found.value, found.slope, found.fit, found.confidence)


def _hours(number: float) -> timedelta:
    return timedelta(hours=min(number, 1e6))


def _means(readings: Sequence[tuple[datetime, float]]) -> list[tuple[datetime, float]]:
    """Return the means of at most MOST stretches of equal length that hold readings."""
    if not readings:
        return []
    begin, end = readings[0][0], readings[-1][0]
    length = (end - begin).total_seconds() / MOST or 1.0
    stretches: dict[int, list[tuple[datetime, float]]] = {}
    for at, value in readings:
        number = min(int((at - begin).total_seconds() / length), MOST - 1)
        stretches.setdefault(number, []).append((at, value))
    means = []
    for _, rows in sorted(stretches.items()):
        middle = sum((at - begin).total_seconds() for at, _ in rows) / len(rows)
        means.append((begin + timedelta(seconds=middle), sum(value for _, value in rows) / len(rows)))
    return means


def _after_the_last_fall(means: list[tuple[datetime, float]], fall: float) -> list[tuple[datetime, float]]:
    for number in range(len(means) - 1, 0, -1):
        if means[number - 1][1] - means[number][1] > fall:
            return means[number:]
    return means


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float, float]:
    """Return slope, value at x = 0, standard error of the slope, and R²."""
    count = len(x)
    middle_x, middle_y = sum(x) / count, sum(y) / count
    spread = sum((one - middle_x) ** 2 for one in x)
    slope = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    level = middle_y - slope * middle_x
    rest = sum((b - level - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    total = sum((b - middle_y) ** 2 for b in y)
    fit = 1 - rest / total if total > 0 else 1.0
    return slope, level, math.sqrt(rest / (count - 2) / spread), fit


def _probability(t: float, freedom: int) -> float:
    """Return the share of Student's t below `t`: with x = √f·tan(a) its integral is one of cos(a)^(f-1), by Simpson."""
    steps = 100
    width = math.atan(abs(t) / math.sqrt(freedom)) / steps
    heights = [math.cos(number * width) ** (freedom - 1) for number in range(steps + 1)]
    area = width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + math.copysign(scale * area, t)


def _quantile(share: float, freedom: int) -> float:
    """Return the t that `share` of Student's t lies below, by bisection."""
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(middle, freedom) < share else (low, middle)
    return high
