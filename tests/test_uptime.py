"""Uptime of one session from its events: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.reporting.uptime import Loss, Step, Uptime, uptime

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = BEGIN + 24 * HOUR


def step(hours: float, state: str, reason: str = "", code: int | None = None) -> Step:
    return Step(BEGIN + hours * HOUR, state, reason, code)


def hours(found: Uptime) -> tuple[float, float, float, float]:
    return tuple(time / HOUR for time in (found.up, found.down, found.excused, found.unknown))  # type: ignore[return-value]


def test_a_session_that_stayed_connected_was_up_all_the_time() -> None:
    found = uptime([], BEGIN, END, step(-5, "connected"))
    assert (hours(found), found.share, found.losses) == ((24, 0, 0, 0), 1.0, [])


def test_nothing_known_is_neither_up_nor_down() -> None:
    found = uptime([], BEGIN, END, None)
    assert (hours(found), found.share) == ((0, 0, 0, 24), None)


def test_an_outage_counts_until_it_is_connected_again() -> None:
    steps = [step(6, "reconnecting", "dropped"), step(6.5, "waiting", "dropped", 408), step(7, "connecting"),
             step(8, "connected")]  # fmt: skip
    found = uptime(steps, BEGIN, END, step(-1, "connected"))
    assert hours(found) == (22, 2, 0, 0)
    assert found.share == pytest.approx(22 / 24)
    assert found.losses == [Loss(BEGIN + 6 * HOUR, 408, 2 * HOUR)]
    assert found.longest == 2 * HOUR


def test_what_staff_stopped_is_excused() -> None:
    steps = [step(10, "stopped", "by_staff"), step(14, "connecting"), step(14.5, "connected")]
    found = uptime(steps, BEGIN, END, step(-1, "connected"))
    assert hours(found) == (19.5, 0.5, 4, 0)
    assert found.losses == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [("stopped", "conflict"), ("stopped", "host_stopped"), ("logged_out", "removed_on_phone"), ("banned", "banned"),
     ("outdated", "outdated"), ("waiting", "breaker_open")],
)  # fmt: skip
def test_what_nobody_wanted_is_down(state: str, reason: str) -> None:
    found = uptime([step(12, state, reason, 440)], BEGIN, END, step(-1, "connected"))
    assert hours(found) == (12, 12, 0, 0)
    assert found.losses == [Loss(BEGIN + 12 * HOUR, 440, None)]
    assert found.longest == 12 * HOUR


def test_time_before_the_first_pairing_is_excused() -> None:
    steps = [step(1, "pairing"), step(1.1, "connecting"), step(1.2, "connected")]
    found = uptime(steps, BEGIN, END, step(-1, "unpaired"))
    assert found.excused / HOUR == pytest.approx(1.1)
    assert found.share == pytest.approx(22.8 / 22.9)


def test_each_loss_keeps_its_own_code_and_time() -> None:
    steps = [step(1, "waiting", "conflict", 440), step(2, "connected"), step(3, "reconnecting", "dropped"),
             step(3.5, "connected"), step(23, "reconnecting", "dropped", 503)]  # fmt: skip
    found = uptime(steps, BEGIN, END, step(-1, "connected"))
    assert [(loss.code, loss.back_after) for loss in found.losses] == [(440, HOUR), (None, HOUR / 2), (503, None)]


def test_an_outage_that_began_before_is_down_but_no_loss_of_this_time() -> None:
    found = uptime([step(2, "connected")], BEGIN, END, step(-1, "waiting", "dropped", 408))
    assert hours(found) == (22, 2, 0, 0)
    assert found.losses == []


def test_events_whose_times_run_backwards_never_give_negative_time() -> None:
    steps = [step(5, "waiting"), step(4, "connected"), step(6, "waiting")]
    found = uptime(steps, BEGIN, END, step(-1, "connected"))
    assert min(hours(found)) >= 0
    assert sum(hours(found)) == pytest.approx(24)
