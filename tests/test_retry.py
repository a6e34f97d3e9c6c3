"""The retry policy, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sessions_app import retry
from sessions_app.retry import Failure, Next, after_failure

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def after(code: int, attempts: int = 1, ages: tuple[timedelta, ...] = (), **more: object) -> Next:
    """What follows a failure with `code` now, after earlier ones of the same code."""
    failures = [Failure(NOW - age, code) for age in ages] + [Failure(NOW, code)]
    return after_failure(failures, attempts, NOW, 0, **more)  # type: ignore[arg-type]


def wait(code: int, attempts: int = 1, **more: object) -> timedelta:
    retry_at = after(code, attempts, **more).retry_at  # type: ignore[arg-type]
    assert retry_at is not None
    return retry_at - NOW


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        (408, [15, 30, 60, 120, 240, 300, 300]),
        (retry.OTHER, [8, 16, 32, 64, 128, 256, 300, 300]),
        (503, [8, 16, 32, 64, 128, 256, 300, 300]),
        (500, [8, 16]),
        (405, [6 * 3600, 6 * 3600, 6 * 3600]),
        (515, [0, 0]),
    ],
)
def test_delays_grow_as_the_table_says(code: int, seconds: list[int]) -> None:
    assert [wait(code, n).total_seconds() for n in range(1, len(seconds) + 1)] == seconds


def test_a_thousand_failures_wait_no_longer_than_the_cap() -> None:
    assert wait(408, 1000) == 5 * MINUTE


@pytest.mark.parametrize("code", [401, 403])
def test_a_logged_out_account_is_never_tried_again(code: int) -> None:
    assert after(code) == Next(None)


def test_a_second_conflict_waits_twice_as_long_and_a_third_stops() -> None:
    assert after(440).retry_at == NOW + 30 * SECOND
    assert after(440, ages=(10 * MINUTE,)).retry_at == NOW + 60 * SECOND
    assert after(440, ages=(20 * MINUTE, 10 * MINUTE)) == Next(None, hold="conflict")


def test_conflicts_more_than_half_an_hour_apart_do_not_add_up() -> None:
    assert after(440, ages=(62 * MINUTE, 31 * MINUTE)).retry_at == NOW + 30 * SECOND


def test_other_failures_do_not_lengthen_the_wait_after_a_conflict() -> None:
    failures = [Failure(NOW - 5 * SECOND, 503), Failure(NOW, 440)]
    assert after_failure(failures, 2, NOW, 0).retry_at == NOW + 30 * SECOND


def test_a_ban_lasts_until_it_expires() -> None:
    until = NOW + timedelta(hours=7)
    assert after(402, banned_until=until).retry_at == until


def test_a_ban_without_an_end_is_looked_at_hourly() -> None:
    assert wait(402) == timedelta(hours=1)


def test_the_fifth_failure_in_five_minutes_opens_the_breaker() -> None:
    ages = (225 * SECOND, 210 * SECOND, 180 * SECOND, 120 * SECOND)
    assert after(408, 4, ages=ages[1:]).breaker_open is False
    assert after(408, 5, ages=ages) == Next(NOW + 10 * MINUTE, breaker_open=True)


def test_a_failed_trial_opens_the_breaker_again() -> None:
    assert after(408, 6, breaker_open=True) == Next(NOW + 10 * MINUTE, breaker_open=True)


def test_failures_spread_over_more_than_five_minutes_do_not_open_it() -> None:
    assert after(408, 5, ages=(20 * MINUTE, 15 * MINUTE, 10 * MINUTE, 6 * MINUTE)).breaker_open is False


@pytest.mark.parametrize("code", [408, 440, 503, 405])
def test_jitter_only_ever_waits_longer_by_a_fifth_at_most(code: int) -> None:
    none, full = (after_failure([Failure(NOW, code)], 1, NOW, j).retry_at for j in (0, 1))
    assert none is not None
    assert full is not None
    assert full - NOW == (none - NOW) * 1.2


def test_the_scale_multiplies_every_time() -> None:
    assert wait(408, scale=0.1) == 1.5 * SECOND


def test_a_connection_of_a_minute_is_stable() -> None:
    assert retry.is_stable(NOW - MINUTE, NOW)
    assert not retry.is_stable(NOW - 59 * SECOND, NOW)
    assert not retry.is_stable(None, NOW)
