"""The trend of a value: found where there is one, silent where there is none or too little data."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.trend import Finding, _probability, _quantile, trend

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def readings(
    hours: float, start: float, slope: float, noise: float = 0.5, seed: int = 1
) -> list[tuple[datetime, float]]:
    """Return one every 30 s: a line with noise that wanders, as memory does."""
    dice, wander, found = random.Random(seed), 0.0, []
    count = int(hours * 120)
    for number in range(count):
        wander = 0.9 * wander + dice.gauss(0, noise)
        at = NOW - timedelta(seconds=30 * (count - number))
        found.append((at, start + slope * number / 120 + wander))
    return found


def test_a_leak_is_found_and_the_time_lies_within_its_bounds() -> None:
    found = trend(readings(12, 50, 1.0), 80, NOW)  # 62 by now: 18 hours to go
    assert found.finding is Finding.NEAR
    assert found.slope == pytest.approx(1.0, abs=0.1)
    assert found.confidence is not None
    assert found.confidence > 0.99
    assert found.at is not None
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest < found.at < found.latest
    assert found.earliest <= NOW + timedelta(hours=18) <= found.latest
    assert abs(found.at - NOW - timedelta(hours=18)) < timedelta(hours=2)


@pytest.mark.parametrize("seed", range(20))
def test_wandering_without_a_slope_is_hardly_ever_taken_for_one(seed: int) -> None:
    assert trend(readings(12, 50, 0, seed=seed), 80, NOW).finding in (Finding.NONE, Finding.FAR)


def test_it_says_nothing_with_too_little_data() -> None:
    assert trend([], 80, NOW).finding is Finding.TOO_LITTLE
    assert trend(readings(0.5, 50, 20), 80, NOW).finding is Finding.TOO_LITTLE
    assert trend(readings(12, 50, 1)[::400], 80, NOW).finding is Finding.TOO_LITTLE


def test_it_says_nothing_about_what_is_too_far_away() -> None:
    assert trend(readings(2, 50, 1, noise=0.05), 80, NOW).finding is Finding.FAR


def test_a_falling_value_is_no_danger_and_one_beyond_is_told() -> None:
    assert trend(readings(12, 70, -1), 80, NOW).finding is Finding.NONE
    assert trend(readings(12, 79, 1), 80, NOW).finding is Finding.BEYOND


def test_after_a_restart_only_what_came_later_counts() -> None:
    before = [(at - timedelta(hours=6), value) for at, value in readings(6, 70, 1)]
    found = trend(before + readings(6, 40, 3, noise=0.2), 80, NOW)
    assert found.finding is Finding.NEAR
    assert found.slope == pytest.approx(3, abs=0.3)
    assert found.span < timedelta(hours=7)


def test_readings_of_a_clock_that_was_ahead_do_not_count() -> None:
    ahead = [(NOW + timedelta(hours=5), 1000.0)]
    assert trend(readings(12, 50, 1) + ahead, 80, NOW) == trend(readings(12, 50, 1), 80, NOW)


def test_a_constant_value_is_no_trend() -> None:
    assert trend([(at, 50.0) for at, _ in readings(12, 0, 0)], 80, NOW).finding is Finding.NONE


@pytest.mark.parametrize(("t", "freedom", "share"), [(2.132, 4, 0.95), (2.776, 4, 0.975), (2.228, 10, 0.975),
                                                     (2.042, 30, 0.975)])  # fmt: skip
def test_students_t_agrees_with_the_tables(t: float, freedom: int, share: float) -> None:
    assert _probability(t, freedom) == pytest.approx(share, abs=0.0005)
    assert _quantile(share, freedom) == pytest.approx(t, abs=0.002)
