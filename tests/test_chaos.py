"""The chaos run: its schedule is the seed's alone, and its verdict can fail."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.models import Account
from sessions_app.host.journal import Noted, dump
from sessions_app.models import SessionEvent
from sessions_app.whatsapp.client import Kind, Observation
from tests.chaos import FAULTS, Chaos, Step, schedule
from tests.chaos_verdict import audited, early, unasked

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_seed_decides_the_whole_schedule() -> None:
    assert schedule(7, 180) == schedule(7, 180)
    assert schedule(7, 180) != schedule(8, 180)


def test_every_fault_ends_within_the_run_and_all_of_them_occur() -> None:
    steps = schedule(1, 3000)
    assert {step.what for step in steps} == set(FAULTS)
    assert all(0 <= step.at <= 3000 for step in steps)
    lasting = [what for what, (_, _, most) in FAULTS.items() if most]
    for what in lasting:
        assert sum(s.undo for s in steps if s.what == what) == sum(not s.undo for s in steps if s.what == what)


def test_what_waits_for_a_paused_process_does_not_keep_it_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    awake, done = threading.Event(), []

    def do(_self: Chaos, step: Step) -> None:
        if step.what == "pause_host":
            (awake.set if step.undo else awake.clear)()
        else:
            assert awake.wait(20), "what asks the database kept the process that holds its lock from waking up"
            done.append(step.what)

    monkeypatch.setattr(Chaos, "_do", do)
    steps = [Step(0, "pause_host"), Step(0.01, "stop_session"), Step(0.02, "pause_host", undo=True)]
    Chaos(SimpleNamespace(), SimpleNamespace()).run(steps)  # type: ignore[arg-type]
    assert done == ["stop_session"]


def event(kind: str, after: float, **fields: Any) -> SessionEvent:
    return SessionEvent(kind=kind, at=NOW + after * SECOND, **fields)


def test_an_early_start_is_seen() -> None:
    failed = event("connect_failed", 0, evidence={"retry_at": (NOW + 8 * SECOND).isoformat()})
    assert list(early([failed, event("starting", 7)]))
    assert not list(early([failed, event("starting", 8)]))
    assert not list(early([failed, event("reset", 1), event("starting", 2)]))
    assert not list(early([failed, event("stopped", 1, reason="restart"), event("starting", 2)]))
    assert list(early([failed, event("stopped", 1, reason="by_staff"), event("starting", 2)]))


def test_a_log_in_nobody_started_is_seen() -> None:
    def log_in(at: float) -> Any:
        return SimpleNamespace(login_times=[NOW.timestamp() + at])

    events = [event("starting", 1), event("probe_failed", 10)]
    assert list(unasked(events, log_in(0)))
    assert not list(unasked(events, log_in(5)))
    assert list(unasked(events, log_in(12)))


@pytest.mark.django_db
def test_an_observation_without_a_row_is_seen_unless_its_lease_was_lost(tmp_path: Any) -> None:
    session = Account.objects.create(label="x").session
    seen = Observation(Kind.CONNECTED, at=NOW)
    (tmp_path / "audit-host-1").write_bytes(dump(Noted(session.pk, 3, seen)) + b'{"cut sho')
    installation: Any = SimpleNamespace(folder=tmp_path)
    assert [len(lost) for _, lost in [audited(installation)]] == [1]
    SessionEvent.objects.create(session=session, at=NOW, kind="connected", epoch=3)
    assert audited(installation) == (1, [])
    SessionEvent.objects.all().delete()
    SessionEvent.objects.create(session=session, at=NOW, kind="lease_lost", epoch=3)
    assert audited(installation) == (1, [])
