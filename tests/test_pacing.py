"""Pacing: how fast an account may write."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, time, timedelta

import pytest

from messaging.pacing import DAY, UNPACED, WARM_UP, Pace, Past, Turn, cold_cap, quiet_until, turn, typing_time

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
FREE = Pace(per_minute=10_000, gap=timedelta(0), warm_up=False)


def ask(pace: Pace, past: Past, now: datetime = NOW, cold: bool = False, dice: float = 0.0) -> Turn:
    return turn(pace, past, now, cold=cold, dice=dice)


def test_the_first_message_goes_at_once() -> None:
    assert ask(Pace(), Past(), cold=True) == Turn(NOW)


def test_the_gap_grows_with_the_dice_up_to_its_jitter() -> None:
    pace, past = Pace(gap=2 * SECOND, jitter=0.5), Past(deque([NOW]))
    assert ask(pace, past).at == NOW + 2 * SECOND
    assert ask(pace, past, dice=0.999).at == pytest.approx(NOW + 3 * SECOND, abs=timedelta(milliseconds=2))
    assert ask(pace, past, now=NOW + 2 * SECOND).code == ""


def test_no_more_than_the_rate_goes_within_any_minute() -> None:
    pace = Pace(per_minute=3, gap=timedelta(0), warm_up=False)
    past, now, sent = Past(), NOW, []
    for _ in range(9):
        now = ask(pace, past, now=now).at
        past.note(now, cold=False)
        sent.append(now)
    assert all(later - earlier >= MINUTE for earlier, later in zip(sent, sent[3:], strict=False))
    assert sent[-1] - sent[0] == 2 * MINUTE


def test_quiet_hours_hold_everything_until_their_end() -> None:
    pace = Pace(quiet_from=time(21), quiet_until=time(7))
    for hour, ends in ((20, None), (21, NOW.replace(hour=7) + DAY), (6, NOW.replace(hour=7)), (7, None)):
        assert quiet_until(pace, NOW.replace(hour=hour)) == ends
    assert quiet_until(Pace(quiet_from=time(12), quiet_until=time(13)), NOW) == NOW.replace(hour=13)
    assert ask(pace, Past(), now=NOW.replace(hour=22)) == Turn(NOW.replace(hour=7) + DAY, "quiet_hours")


def test_the_daily_cap_counts_cold_contacts_alone() -> None:
    pace = Pace(per_minute=10_000, gap=timedelta(0), daily_cap=2, warm_up=False)
    past = Past(cold_day=deque([NOW - 5 * MINUTE, NOW - MINUTE]))
    assert ask(pace, past, cold=True) == Turn(NOW - 5 * MINUTE + DAY, "daily_cap")
    assert ask(pace, past, cold=False) == Turn(NOW)
    assert ask(pace, past, now=NOW + DAY, cold=True).code == ""


def test_a_young_account_writes_to_fewer_new_people() -> None:
    caps = [cold_cap(Pace(), NOW - days * DAY, NOW) for days in range(len(WARM_UP) + 1)]
    assert caps == [*WARM_UP, 1000]
    assert caps == sorted(caps)
    assert cold_cap(Pace(daily_cap=5), NOW, NOW) == 5
    assert cold_cap(Pace(warm_up=False), NOW, NOW) == 1000


def test_a_restriction_pauses_cold_contacts_and_replies_go_on_even_without_pacing() -> None:
    past = Past(paused_until=NOW + DAY)
    for pace in (FREE, UNPACED):
        assert ask(pace, past, cold=True) == Turn(NOW + DAY, "contacts_paused")
        assert ask(pace, past, cold=False) == Turn(NOW)
        assert ask(pace, past, now=NOW + DAY, cold=True).code == ""


def test_without_pacing_nothing_is_held() -> None:
    past = Past(deque([NOW] * 500), deque([NOW] * 5000), paired_at=NOW)
    assert ask(UNPACED, past, cold=True) == Turn(NOW)


@pytest.mark.parametrize("pace", [Pace(), UNPACED])
def test_what_no_rule_looks_at_any_more_is_forgotten(pace: Pace) -> None:
    past = Past(deque([NOW] * 500), deque([NOW] * 500))
    ask(pace, past, now=NOW + DAY)
    assert (len(past.sent), len(past.cold_day)) == (1, 0)


def test_long_texts_take_longer_to_type_but_never_long() -> None:
    assert typing_time("hi", 0.5) < typing_time("hello, how are you today?", 0.5) < timedelta(seconds=3)
    assert typing_time("x" * 4000, 0.99) <= timedelta(seconds=10)
