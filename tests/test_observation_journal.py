"""The journal of observations: what a killed host had seen and not written, its next process writes."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue

import pytest
from django.utils import timezone

from accounts.models import Account
from sessions_app.host import writer
from sessions_app.host.journal import Journal, Noted
from sessions_app.host.writer import Entry, Writer
from sessions_app.models import Host, Session, SessionEvent
from sessions_app.transition import Outcome
from sessions_app.whatsapp.client import Kind, Observation
from tests.unconfirmed import leave_unconfirmed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host-1.observations"


def test_what_is_not_written_is_there_for_the_next_process(path: Path) -> None:
    first, notes = Journal(path), [Noted(7, 1, Observation(kind)) for kind in (Kind.STARTING, Kind.CONNECTED)]
    for noted in notes:
        first.append(noted)
    first.written(notes[0])
    first.close()
    with path.open("ab") as file:
        file.write(b'{"session": 7, "epo')  # the middle of a line: a kill
    assert Journal(path).left_behind() == notes


def test_it_is_emptied_once_all_is_written(path: Path) -> None:
    journal, noted = Journal(path), Noted(7, 1, Observation(Kind.CONNECTED))
    journal.append(noted)
    assert path.stat().st_size
    journal.written(noted)
    assert path.stat().st_size == 0
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [Kind.QR, Kind.PAIR_CODE])
def test_a_code_to_pair_with_is_never_in_it(path: Path, kind: Kind) -> None:
    Journal(path).append(Noted(7, 1, Observation(kind, detail={"text": "a secret"})))
    assert path.read_bytes() == b""


@pytest.mark.django_db(transaction=True)
def test_a_commit_that_nobody_answers_for_is_not_done_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_PAUSE", 0.01)
    host, account = Host.objects.create(name="host-1"), Account.objects.create(label="Front office")
    Session.objects.filter(account=account).update(
        host=host, lease_epoch=3, state="pairing", pairing_store="1/new.db", reason="scanned"
    )
    done = leave_unconfirmed(monkeypatch, "writer")
    ours, outcomes = Writer(host, Journal(path)), SimpleQueue[Outcome | None]()
    ours.start()
    kinds = [Kind.PAIRED, Kind.STARTING, Kind.CONNECTED, *[Kind.CONNECT_TIMEOUT, Kind.STARTING] * 9]
    for kind in kinds:
        seen = Observation(kind, None, {"phone": "4917100000001"} if kind is Kind.PAIRED else {})
        ours.put(Entry(account.session.pk, 3, seen, outcomes.put))
        outcome = outcomes.get(timeout=10)
        assert outcome is not None
        assert (outcome.event.kind, outcome.keep) == (kind, True if kind is Kind.PAIRED else None)
    assert ours.finish(10)
    assert list(SessionEvent.objects.order_by("pk").values_list("kind", flat=True)) == kinds
    row = Session.objects.get(account=account)
    assert (row.store, row.attempts, ours.failures) == ("1/new.db", 9, 9)
    assert done[:2] == [True, False]


@pytest.mark.django_db
def test_a_replay_writes_what_is_missing_once_and_nothing_of_a_lost_lease(path: Path) -> None:
    host = Host.objects.create(name="host-1")
    sessions = [Account.objects.create(label=label).session for label in ("mine", "lost")]
    for session in sessions:
        Session.objects.filter(pk=session.pk).update(host=host, lease_epoch=3, state="connecting")
    other = Host.objects.create(name="host-2")
    Session.objects.filter(pk=sessions[1].pk).update(host=other, lease_epoch=4)
    at = timezone.now()
    journal = Journal(path)
    for session in sessions:
        journal.append(Noted(session.pk, 3, Observation(Kind.CONNECTED, None, {"phone": "", "lid": ""}, at)))
    journal.close()

    def replay() -> int:
        return Writer(host, Journal(path)).replay()

    assert replay() == 2
    states = [Session.objects.get(pk=session.pk).state for session in sessions]
    assert states == ["connected", "connecting"]
    assert list(SessionEvent.objects.values_list("session", "kind", "at")) == [(sessions[0].pk, "connected", at)]
    assert path.stat().st_size == 0
    journal = Journal(path)
    journal.append(Noted(sessions[0].pk, 3, Observation(Kind.CONNECTED, None, {}, at)))
    journal.close()
    assert replay() == 0  # it was written, and the process ended before it was struck out
    assert SessionEvent.objects.count() == 1
