"""Quiet hours: on whose clock, over midnight, on the nights the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from monitoring.quiet_hours import quiet_until

JAKARTA, BERLIN, UTC_ZONE = ZoneInfo("Asia/Jakarta"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-11-24 21:59", None),
        ("2026-11-24 22:00", "2026-11-25 07:00"),
        ("2026-11-24 23:59", "2026-11-25 07:00"),
        ("2026-11-25 00:00", "2026-11-25 07:00"),
        ("2026-11-25 06:59:59", "2026-11-25 07:00"),
        ("2026-11-25 07:00", None),
    ],
)
def test_a_night_runs_over_midnight_and_excludes_its_end(now: str, until: str | None) -> None:
    assert quiet_until(at(now), time(22), time(7), UTC_ZONE) == (at(until) if until else None)


def test_a_rest_within_a_day() -> None:
    assert quiet_until(at("2026-11-24 12:30"), time(12), time(13), UTC_ZONE) == at("2026-11-24 13:00")
    assert quiet_until(at("2026-11-24 11:59"), time(12), time(13), UTC_ZONE) is None


def test_it_is_the_clock_of_the_channel_that_counts() -> None:
    # 16:00 UTC is 23:00 in Jakarta, which is quiet until 07:00 there: midnight UTC.
    assert quiet_until(at("2026-11-24 16:00"), time(22), time(7), JAKARTA) == at("2026-11-25 00:00")
    assert quiet_until(at("2026-11-24 23:30"), time(22), time(7), UTC_ZONE) == at("2026-11-25 07:00")
    assert quiet_until(at("2026-11-25 00:30"), time(22), time(7), JAKARTA) is None


def test_the_nights_the_clock_changes_end_at_the_hour_it_shows() -> None:
    # Berlin: back on 25 October 2026 (07:00 is then 06:00 UTC), forward on 29 March 2026 (07:00 is then 05:00 UTC).
    assert quiet_until(at("2026-10-24 21:00"), time(22), time(7), BERLIN) == at("2026-10-25 06:00")
    assert quiet_until(at("2026-03-28 22:00"), time(22), time(7), BERLIN) == at("2026-03-29 05:00")
