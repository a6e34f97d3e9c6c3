"""The next step for a session, in each situation it can be in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessions_app.host.decision import Act, Limits, View, decide
from sessions_app.models import Verb
from sessions_app.states import LIVE, NEEDS_PAIRING, State

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def step(state: State, **more: Any) -> Act:
    view: dict[str, Any] = {"wanted": True, "since": NOW - SECOND, **more}
    return decide(View(state, **view), NOW, Limits())


@pytest.mark.parametrize("state", sorted(State))
@pytest.mark.parametrize("verb", [None, *Verb])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("pairing", [True, False])
def test_every_situation_has_a_step_and_never_a_second_client(
    state: State, verb: Verb | None, wanted: bool, running: bool, pairing: bool
) -> None:
    act = step(state, verb=verb, wanted=wanted, running=running, pairing=pairing)
    if running or pairing:
        assert act not in (Act.START, Act.PAIR, Act.RESUME_PAIRING, Act.RELEASE, Act.HAND_OVER)
    if not wanted:
        assert act is not Act.START
    if act is Act.START:
        assert state not in NEEDS_PAIRING


@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_claimed_session_without_a_client_is_started(state: State) -> None:
    assert step(state) is Act.START


def test_a_healthy_session_is_not_touched() -> None:
    assert step(State.CONNECTED, running=True, since=NOW - timedelta(days=30), silent=44 * SECOND) is Act.NOTHING


def test_a_silent_connection_is_probed_and_not_restarted() -> None:
    assert step(State.CONNECTED, running=True, silent=45 * SECOND) is Act.PROBE


def test_the_second_missed_keep_alive_counts() -> None:
    assert step(State.CONNECTED, running=True, keepalive_timeouts=1) is Act.NOTHING
    assert step(State.CONNECTED, running=True, keepalive_timeouts=2) is Act.DEAF


def test_a_log_in_may_take_two_minutes() -> None:
    assert step(State.CONNECTING, running=True, since=NOW - 119 * SECOND) is Act.NOTHING
    assert step(State.CONNECTING, running=True, since=NOW - 120 * SECOND) is Act.CONNECT_TIMEOUT


def test_the_library_may_reconnect_by_itself_for_eight_seconds() -> None:
    assert step(State.RECONNECTING, running=True, since=NOW - 7 * SECOND) is Act.NOTHING
    assert step(State.RECONNECTING, running=True, since=NOW - 8 * SECOND) is Act.GRACE_ENDED


def test_a_connection_that_drops_again_and_again_is_a_failure() -> None:
    assert step(State.CONNECTED, running=True, drops=3) is Act.GRACE_ENDED


@pytest.mark.parametrize("state", sorted(set(State) - LIVE - {State.PAIRING}))
def test_a_dead_client_is_not_kept(state: State) -> None:
    assert step(state, running=True) is Act.DROP


@pytest.mark.parametrize("state", [State.WAITING, State.BANNED, State.OUTDATED])
def test_nothing_happens_before_the_next_attempt_is_due(state: State) -> None:
    assert step(state, retry_at=NOW + SECOND) is Act.NOTHING
    assert step(state, retry_at=NOW) is Act.START


@pytest.mark.parametrize("state", sorted(NEEDS_PAIRING))
def test_an_account_without_keys_rests(state: State) -> None:
    assert step(state) is Act.RELEASE


def test_a_hold_waits_for_a_person() -> None:
    assert step(State.STOPPED, hold="conflict") is Act.RELEASE
    assert step(State.STOPPED, hold="conflict", verb=Verb.START) is Act.RESET


def test_offline_stops_a_client_then_rests() -> None:
    assert step(State.CONNECTED, wanted=False, running=True) is Act.STOP
    assert step(State.CONNECTED, wanted=False) is Act.REST
    assert step(State.STOPPED, wanted=False) is Act.RELEASE


def test_a_pairing_survives_its_child_within_the_window_only() -> None:
    window = NOW + SECOND
    assert step(State.PAIRING, window=window, pairing=True) is Act.NOTHING
    assert step(State.PAIRING, window=window) is Act.RESUME_PAIRING
    assert step(State.PAIRING, window=NOW) is Act.CLOSE_WINDOW


def test_pairing_again_stops_the_client_first() -> None:
    assert step(State.CONNECTED, verb=Verb.PAIR, running=True) is Act.DROP
    assert step(State.CONNECTED, verb=Verb.PAIR) is Act.PAIR


def test_surplus_is_stopped_before_it_is_handed_over() -> None:
    assert step(State.CONNECTED, leaving=True, running=True) is Act.STOP
    assert step(State.STOPPED, leaving=True) is Act.HAND_OVER
