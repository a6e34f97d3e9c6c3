"""Every state, reason and event has its words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Account
from sessions_app.explanations import LABELS, TABLE, explain
from sessions_app.models import Session
from sessions_app.models.event import OWN_KINDS
from sessions_app.states import State
from sessions_app.timeline import HAPPENED
from sessions_app.whatsapp.client import Kind, PairFailure

pytestmark = pytest.mark.django_db


def session(**fields: object) -> Session:
    row: Session = Account.objects.create(label="x").session
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def test_every_state_has_a_label_and_a_sentence() -> None:
    assert set(LABELS) == set(State)
    assert {state for state, reason in TABLE if not reason} == set(State)


@pytest.mark.parametrize("failure", PairFailure)
def test_every_way_a_pairing_fails_has_its_own_sentence(failure: PairFailure) -> None:
    assert (State.UNPAIRED, failure.value) in TABLE
    sentences = [str(sentence) for (state, _), (sentence, _todo) in TABLE.items() if state is State.UNPAIRED]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("kind", [*OWN_KINDS, *Kind])
def test_every_event_has_words(kind: str) -> None:
    assert kind in HAPPENED


@pytest.mark.parametrize(("state", "reason"), TABLE)
def test_every_sentence_can_be_filled(state: State, reason: str) -> None:
    row = session(state=state, reason=reason, code=503, host_id=1, detail={"phone": "6281200000001"})
    explanation = explain(row, timezone.now())
    assert explanation.sentence
    assert "%(" not in explanation.sentence


def test_a_wrong_number_is_named_with_the_expected_one() -> None:
    row = session(reason="wrong_number", detail={"phone": "6281200000002", "expected": "6281200000001"})
    sentence = explain(row, timezone.now()).sentence
    assert "+62 812-0000-0002" in sentence
    assert "+62 812-0000-0001" in sentence


def test_a_lease_that_ran_out_is_not_shown_as_connected() -> None:
    row = session(state=State.CONNECTED, host_id=1, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert explain(row, timezone.now()).label == "unknown"


def test_a_wish_nobody_serves_says_that_no_host_runs() -> None:
    row = session(state=State.STOPPED, due_at=timezone.now() - timedelta(minutes=1))
    assert "No session host is running" in explain(row, timezone.now()).what_to_do
