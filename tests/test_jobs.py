"""live_back and cleanup."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import Schedule

from accounts.models import Account
from sessions_app import cleanup, jobs
from sessions_app.live_back import live_back
from sessions_app.models import Host, Job, RetryRule, Session, SessionCommand, SessionEvent
from sessions_app.models.retry_rule import LEAST, apply_to_waiting

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def session(label: str, **fields: Any) -> Session:
    row: Session = Account.objects.create(label=label).session
    Session.objects.filter(pk=row.pk).update(**fields)
    return row


def due(row: Session) -> bool:
    row.refresh_from_db()
    return row.due_at is not None


def owner(now: datetime, **fields: Any) -> dict[str, Any]:
    host, _ = Host.objects.get_or_create(name="host-1")
    return {"host": host, "lease_expires_at": now + MINUTE, **fields}


def test_a_healthy_session_is_not_touched(now: datetime) -> None:
    rows = [session(state, state=state, **owner(now)) for state in ("connected", "connecting", "pairing")]
    assert live_back(now) == {"expired": 0, "due": 0, "fleet_opened": 0, "fleet_closed": 0}
    assert not any(due(row) for row in rows)


def test_sessions_of_a_dead_host_are_due_at_once(now: datetime) -> None:
    row = session("a", state="connected", **owner(now, lease_expires_at=now - MINUTE))
    assert live_back(now)["expired"] == 1
    row.refresh_from_db()
    assert row.host is None
    assert row.due_at == now


def test_what_waits_is_due_only_after_its_time(now: datetime) -> None:
    later = session("later", state="waiting", retry_at=now + MINUTE)
    ready = session("ready", state="waiting", retry_at=now - MINUTE)
    assert live_back(now)["due"] == 1
    assert due(ready)
    assert not due(later)


def test_what_was_checked_within_thirty_seconds_is_left_alone(now: datetime) -> None:
    row = session("a", state="waiting", checked_at=now - timedelta(seconds=29))
    live_back(now)
    assert not due(row)
    live_back(now + timedelta(seconds=1))
    assert due(row)


def test_an_account_waiting_for_a_scan_is_not_logged_out_by_live_back(now: datetime) -> None:
    row = session("a", state="pairing", pairing_expires_at=now + MINUTE, **owner(now))
    live_back(now)
    row.refresh_from_db()
    assert (row.state, row.due_at) == ("pairing", None)


def test_what_a_person_has_to_mend_is_left_to_the_person(now: datetime) -> None:
    rows = [session("a", state="logged_out"), session("b", state="unpaired"),
            session("c", state="stopped", hold="conflict")]  # fmt: skip
    offline = session("d", state="waiting")
    Account.objects.filter(label="d").update(desired="offline")
    assert live_back(now)["due"] == 0
    assert not any(due(row) for row in [*rows, offline])


def test_two_ticks_at_once_mark_a_session_once(now: datetime) -> None:
    session("a", state="waiting")
    assert [live_back(now)["due"], live_back(now)["due"]] == [1, 0]


def test_the_number_of_queries_does_not_depend_on_the_number_of_accounts(now: datetime) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection, ) as seen:
            live_back(now)
        return len(seen)

    session("first", state="waiting")
    one = queries()
    for n in range(30):
        session(str(n), state="waiting")
    assert queries() == one <= 10


def test_jobs_are_registered_on_migrate_and_stay_paused() -> None:
    assert set(Schedule.objects.values_list("name", flat=True)) >= {"live_back", "cleanup"}
    jobs.pause("cleanup", True)
    jobs.register()
    assert Schedule.objects.get(name="cleanup").repeats == 0
    assert Schedule.objects.get(name="live_back").cron == "* * * * * */30"


def test_a_job_that_never_ran_is_late_only_when_its_time_has_come() -> None:
    Schedule.objects.filter(name="live_back").update(next_run=timezone.now())
    Schedule.objects.filter(name="backup").update(next_run=timezone.now() + timedelta(hours=8))
    assert not {"live_back", "backup"} & set(jobs.late(timezone.now()))
    assert "live_back" in jobs.late(timezone.now() + timedelta(seconds=91))
    assert "backup" not in jobs.late(timezone.now() + timedelta(hours=33))
    assert "backup" in jobs.late(timezone.now() + timedelta(hours=35))
    Schedule.objects.filter(name="cleanup").delete()
    assert "cleanup" in jobs.late(timezone.now())


def test_a_run_is_recorded_and_a_stopped_cluster_noticed() -> None:
    jobs.run("live_back")
    job = Job.objects.get(name="live_back")
    assert job.counts["due"] == 0
    assert job.duration is not None
    assert "live_back" not in jobs.late(timezone.now())
    assert "live_back" in jobs.late(timezone.now() + timedelta(seconds=91))


def test_the_retry_policy_has_its_rows_and_refuses_hammering() -> None:
    assert set(RetryRule.objects.values_list("code", flat=True)) == {0, 402, 405, 408, 440, 515}
    from django.core.exceptions import ValidationError

    for fields in ({"first": 0.1, "cap": 300}, {"first": 60, "cap": 30}, {"first": 10, "cap": 90_000}):
        with pytest.raises(ValidationError):
            RetryRule(code=599, growth=2, **fields).full_clean()
    for code, least in LEAST.items():
        if least:
            with pytest.raises(ValidationError, match=f"use {least} s or more"):
                RetryRule(code=code, first=least - 1, growth=1, cap=86400).full_clean()
    with pytest.raises(ValidationError):
        RetryRule(code=401, first=10, growth=2, cap=60).full_clean()


def test_an_edited_rule_counts_at_once_also_for_those_that_wait(now: datetime) -> None:
    failed = {"state": "waiting", "attempts": 1, "retry_at": now + 5 * MINUTE}
    mine = session("a", code=503, failures=[[now.isoformat(), 503]], **failed)
    other = session("b", code=408, failures=[[now.isoformat(), 408]], **failed)
    banned = session("c", code=402, failures=[[now.isoformat(), 402]], **{**failed, "state": "banned"})
    RetryRule.objects.filter(code=0).update(first=60, cap=60, jitter=0)
    assert apply_to_waiting([0]) == 1
    RetryRule.objects.create(code=503, first=20, growth=2, cap=60, jitter=0)
    assert apply_to_waiting([0, 402]) == 0  # it has a row of its own now; and a ban lasts until it expires
    assert apply_to_waiting([503]) == 1
    mine.refresh_from_db()
    assert mine.retry_at == now + timedelta(seconds=20)
    for row in (other, banned):
        row.refresh_from_db()
        assert row.retry_at == now + 5 * MINUTE


def test_stuck_sessions_are_looked_at(now: datetime) -> None:
    pairing = session("a", state="pairing", pairing_expires_at=now - MINUTE)
    connecting = session("b", state="connecting", state_changed_at=now - 3 * MINUTE)
    fine = session("c", state="connecting", state_changed_at=now - MINUTE)
    assert cleanup.mark_stuck(now) == 2
    assert due(pairing)
    assert due(connecting)
    assert not due(fine)


def test_a_command_nobody_took_is_closed_with_a_sentence(now: datetime) -> None:
    command = session("a").request_start("ana")
    assert cleanup.close_commands(now) == 0
    assert cleanup.close_commands(now + timedelta(hours=2)) == 1
    command.refresh_from_db()
    assert "No session host" in command.error
    cleanup.close_commands(now + timedelta(days=10))
    assert not SessionCommand.objects.exists()


def test_old_events_go_and_young_ones_stay(now: datetime) -> None:
    row = session("a")
    for days in (1, 100):
        SessionEvent.objects.create(session=row, at=now - timedelta(days=days), kind="connected")
    assert cleanup.delete_events(now) == 1
    assert SessionEvent.objects.count() == 1


def test_an_orphaned_store_goes_into_quarantine_and_only_after_a_week_away(
    now: datetime, settings: Any, tmp_path: Path
) -> None:
    settings.DEVICES_DIR = tmp_path
    hour_old = (now - 2 * timedelta(hours=1)).timestamp()
    for name in ("used.sqlite3", "orphan.sqlite3", "orphan.sqlite3-wal", "young.sqlite3"):
        (tmp_path / name).write_text(name)
        if name != "young.sqlite3":
            os.utime(tmp_path / name, (hour_old, hour_old))
    session("a", store="used.sqlite3")
    assert cleanup.quarantine_stores(now) == 1
    assert sorted(p.name for p in tmp_path.glob("*.sqlite3*")) == ["used.sqlite3", "young.sqlite3"]
    assert (tmp_path / "quarantine" / "orphan.sqlite3-wal").read_text() == "orphan.sqlite3-wal"
    assert cleanup.empty_quarantine(now + timedelta(days=6)) == 0
    assert cleanup.empty_quarantine(now + timedelta(days=8)) == 1


def test_old_logs_are_compressed(now: datetime, settings: Any, tmp_path: Path) -> None:
    settings.LOG_DIR = tmp_path
    (tmp_path / "web.log.1").write_text("old")
    (tmp_path / "web.log").write_text("in use")
    assert cleanup.compress_logs(now + timedelta(days=31)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["web.log", "web.log.1.gz"]
