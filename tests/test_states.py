"""The transition table is complete, and says what it should."""

from __future__ import annotations

import pytest

from sessions_app.states import LIVE, TRANSITIONS, State, next_state
from sessions_app.transition import _STEPS
from sessions_app.whatsapp.client import Kind


def test_every_kind_of_observation_has_a_row_and_a_step() -> None:
    assert set(TRANSITIONS) == set(Kind)
    assert set(_STEPS) == set(Kind)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {target for row in TRANSITIONS.values() for target in row.values()}
    left = {source for row in TRANSITIONS.values() for source, target in row.items() if target != source}
    assert reached == left == set(State)


@pytest.mark.parametrize("kind", [Kind.REPLACED, Kind.LOGGED_OUT, Kind.BANNED, Kind.OUTDATED, Kind.CONNECT_FAILED,
                                  Kind.CLIENT_DIED])  # fmt: skip
@pytest.mark.parametrize("state", sorted(LIVE))
def test_the_end_of_a_client_always_leaves_the_live_states(kind: Kind, state: State) -> None:
    after = next_state(state, kind)
    assert after is not None
    assert after not in LIVE


@pytest.mark.parametrize("state", sorted(set(State) - LIVE))
def test_a_late_connected_of_a_stopped_client_changes_nothing(state: State) -> None:
    assert next_state(state, Kind.CONNECTED) is None


@pytest.mark.parametrize("kind", [Kind.QR, Kind.PAIR_CODE, Kind.PAIR_SCANNED])
def test_a_code_does_not_change_the_state(kind: Kind) -> None:
    assert TRANSITIONS[kind] == {}
