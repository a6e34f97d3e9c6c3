"""When readings open, escalate and resolve; what is unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.evaluation import STALE, Level, Limits, Reading, Verdict, current, judge, level

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LIMITS = Limits(80, 95)


def series(*values: float | None, gap: float = 30, age: float = 0) -> list[Reading]:
    """Return readings `gap` seconds apart, the last `age` seconds old."""
    last = NOW - timedelta(seconds=age)
    return [Reading(last - timedelta(seconds=gap) * n, value) for n, value in enumerate(reversed(values))][::-1]


@pytest.mark.parametrize(
    ("values", "standing", "verdict"),
    [
        ((50, 50, 50), None, Verdict.NOTHING),
        ((50, 50, 90), None, Verdict.NOTHING),
        ((50, 90, 90), None, Verdict.OPEN_WARNING),
        ((90, 50, 90), None, Verdict.NOTHING),
        ((50, 90, 99), None, Verdict.OPEN_WARNING),
        ((50, 99, 99), None, Verdict.OPEN_CRITICAL),
        ((80, 80, 80), None, Verdict.NOTHING),  # the limit itself is still good
        ((90, 99, 99), Level.WARNING, Verdict.ESCALATE),
        ((90, 90, 99), Level.WARNING, Verdict.NOTHING),
        ((99, 90, 90), Level.CRITICAL, Verdict.NOTHING),  # it was critical and is not over
        ((99, 50, 50), Level.CRITICAL, Verdict.NOTHING),
        ((50, 50, 50), Level.CRITICAL, Verdict.RESOLVE),
        ((50, None, None), Level.WARNING, Verdict.RESOLVE),  # nothing left to measure
        ((None, None, None), None, Verdict.NOTHING),
        ((90,), None, Verdict.NOTHING),
        ((), None, Verdict.NOTHING),
        ((), Level.WARNING, Verdict.NOTHING),
    ],
)  # fmt: skip
def test_two_breaches_open_and_three_clear_readings_resolve(
    values: tuple[float | None, ...], standing: Level | None, verdict: Verdict
) -> None:
    assert judge(series(*values), LIMITS, NOW, standing) is verdict


def test_old_readings_open_and_resolve_nothing() -> None:
    old = STALE.total_seconds() + 1
    assert judge(series(99, 99, age=old), LIMITS, NOW, None) is Verdict.NOTHING
    assert judge(series(50, 50, 50, age=old), LIMITS, NOW, Level.CRITICAL) is Verdict.NOTHING
    assert current(series(50, age=old), NOW) is None


def test_readings_with_a_gap_between_them_are_not_in_a_row() -> None:
    gap = STALE.total_seconds()
    assert judge(series(99, 99, gap=gap), LIMITS, NOW, None) is Verdict.NOTHING
    assert judge(series(50, 50, 50, gap=gap), LIMITS, NOW, Level.WARNING) is Verdict.NOTHING


def test_one_missed_reading_is_no_gap() -> None:
    assert judge(series(99, 99, gap=60), LIMITS, NOW, None) is Verdict.OPEN_CRITICAL


def test_a_clock_set_back_leaves_readings_of_the_future_out() -> None:
    future = [Reading(NOW + timedelta(hours=1), 99), Reading(NOW + timedelta(hours=1, seconds=30), 99)]
    assert judge(future, LIMITS, NOW, None) is Verdict.NOTHING
    assert judge(series(50, 50, 50) + future, LIMITS, NOW, Level.WARNING) is Verdict.RESOLVE


def test_a_clock_set_forward_makes_everything_unknown_until_there_are_new_readings() -> None:
    later = NOW + timedelta(hours=2)
    before = series(99, 99)
    assert judge(before, LIMITS, later, None) is Verdict.NOTHING
    assert judge([*before, Reading(later, 99)], LIMITS, later, None) is Verdict.NOTHING
    after = [*before, Reading(later - timedelta(seconds=30), 99), Reading(later, 99)]
    assert judge(after, LIMITS, later, None) is Verdict.OPEN_CRITICAL


def test_a_threshold_that_is_gone_resolves_what_it_opened() -> None:
    assert judge(series(99, 99), None, NOW, Level.CRITICAL) is Verdict.RESOLVE
    assert judge(series(99, 99), None, NOW, None) is Verdict.NOTHING


def test_a_reading_is_never_good_by_default() -> None:
    assert level(Reading(NOW, None), LIMITS) is Level.IDLE
    assert level(Reading(NOW, 1.0), None) is Level.PLAIN
    assert level(Reading(NOW, 1.0), LIMITS) is Level.OK


def test_a_metric_that_is_bad_when_low() -> None:
    limits = Limits(20, 5, above=False)
    assert [level(Reading(NOW, value), limits) for value in (50.0, 10.0, 1.0)] == [
        Level.OK, Level.WARNING, Level.CRITICAL
    ]  # fmt: skip
