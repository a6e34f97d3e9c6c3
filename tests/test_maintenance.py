"""Routine maintenance: what is done, what is said, and that a dry run changes nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from monitoring.models import Incident, RequestCount, SlowQuery
from monitoring.models.request_count import Span
from sessions_app.models import Host, Job, Session
from waserver import maintenance
from waserver.maintenance import daily, dependencies, monthly, slow_queries, weekly, window

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)  # a Sunday
DAY = timedelta(days=1)


@pytest.fixture
def var(tmp_path: Path, settings: Any) -> Path:
    for name in ("devices", "log", "backups", "run"):
        (tmp_path / name).mkdir()
    settings.VAR_DIR, settings.DEVICES_DIR, settings.LOG_DIR = tmp_path, tmp_path / "devices", tmp_path / "log"
    settings.RUN_DIR, settings.BACKUP_URL = tmp_path / "run", str(tmp_path / "backups")
    return tmp_path


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if path.suffix == "" else path.write_text("x")
    at = (timezone.now() - timedelta(days=days)).timestamp()
    os.utime(path, (at, at))
    return path


@pytest.mark.parametrize(("text", "moment", "opened"), [
    ("sun 03:30-05:30", NOW, "22 03:30"),
    ("sun 03:30-05:30", NOW - timedelta(minutes=31), None),
    ("sun 03:30-05:30", NOW + timedelta(minutes=90), None),
    ("sat 23:00-04:30", NOW, "21 23:00"),  # into the next day
    ("Sat 23:00-03:59", NOW, None),
    ("sun 4:00-4:10", NOW, "22 04:00"),
    ("mon 03:30-05:30", NOW, None),
])  # fmt: skip
def test_a_window_is_open_once_a_week(text: str, moment: datetime, opened: str | None) -> None:
    chosen = window.parse(text)
    assert chosen is not None
    found = chosen.opened_at(moment)
    assert (f"{found:%d %H:%M}" if found else None) == opened


def test_a_window_is_in_local_time() -> None:
    chosen = window.parse("sun 03:30-05:30")
    assert chosen is not None
    assert chosen.opened_at(NOW.astimezone(ZoneInfo("Asia/Jakarta"))) is None  # 11:00 there
    assert chosen.opened_at((NOW - timedelta(hours=7)).astimezone(ZoneInfo("Asia/Jakarta"))) is not None


@pytest.mark.parametrize("text", ["sunday 03:00-04:00", "sun 25:00-26:00", "sun 03:00", "sun 03:00-03:05", "x"])
def test_what_is_no_window_is_one_sentence(text: str, settings: Any) -> None:
    settings.MAINTENANCE_WINDOW = text
    (error,) = [one for one in run_checks() if one.id == "waserver.E001"]
    assert "write it like “sun 03:30-05:30”" in error.msg
    assert window.parse("") is None


@pytest.mark.parametrize("number", [-1, 20])
def test_a_niceness_a_host_may_not_have_is_one_sentence(number: int, settings: Any) -> None:
    settings.HOST_NICE = number
    (error,) = [one for one in run_checks() if one.id == "waserver.E002"]
    assert error.msg == f"HOST_NICE must be between 0 and 19, and is {number}."


def hosts(*names: str, **fields: Any) -> list[Host]:
    values = {"heartbeat_at": NOW, "started_at": NOW - DAY, **fields}
    return [Host.objects.create(name=name, **values) for name in names]


@pytest.mark.django_db
def test_in_the_window_hosts_are_asked_one_after_the_other(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAINTENANCE_WINDOW = "sun 03:30-05:30"
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    one, two = hosts("host-1", "host-2")
    assert weekly.restart_in_window(NOW + timedelta(hours=3)) == {"asked": 0}
    assert weekly.restart_in_window(NOW) == {"asked": 1, "waiting": 1}
    assert weekly.restart_in_window(NOW) == {"asked": 0, "waiting": 2}  # it is not back yet
    one.refresh_from_db()
    assert (one.restart_requested_by, one.restart_reason) == ("maintenance", "weekly preventive restart")
    Host.objects.filter(pk=one.pk).update(restart_requested_at=None, started_at=NOW)
    session = Account.objects.create(label="a").session
    Session.objects.filter(pk=session.pk).update(state="connecting", store="1.sqlite3")
    assert weekly.restart_in_window(NOW)["asked"] == 0  # its sessions are not all back
    Session.objects.update(state="connected")
    assert weekly.restart_in_window(NOW) == {"asked": 1, "waiting": 0}
    Host.objects.filter(pk=two.pk).update(restart_requested_at=None, started_at=NOW)
    assert weekly.restart_in_window(NOW) == {"asked": 0, "waiting": 0}  # once in a window
    settings.MAINTENANCE_WINDOW = ""
    Host.objects.update(started_at=NOW - DAY)
    assert weekly.restart_in_window(NOW) == {"asked": 0}


@pytest.mark.django_db
def test_weekly_clears_what_is_old_and_a_dry_run_does_not(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [aged(var / "devices" / "quarantine" / "old.sqlite3", 8), aged(var / "quarantine" / "restore-1", 8)]
    young = [aged(var / "devices" / "quarantine" / "young.sqlite3", 6), aged(var / "quarantine" / "restore-2", 6)]
    log = aged(var / "log" / "web.log.1", 31)
    call_command("maintenance", "weekly", "--dry-run")
    printed = capsys.readouterr().out
    assert "1 device stores would be deleted" in printed
    assert "1 replaced states would be deleted" in printed
    assert "1 logs would be compressed" in printed
    assert all(path.exists() for path in [*old, *young, log])
    call_command("maintenance", "weekly", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["stores"]["stores_deleted"], printed["restored"]["replaced_deleted"]) == (1, 1)
    assert printed["logs"]["logs"] == 1
    assert [path.exists() for path in [*old, *young, log]] == [False, False, True, True, False]
    assert "nothing to restart" in printed["restart"]["lines"][0]


@pytest.mark.django_db
def test_daily_says_how_things_stand_and_what_a_person_has_to_do(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Account.objects.create(label="a").session
    Session.objects.filter(pk=session.pk).update(state="logged_out")
    now = timezone.now()
    Job.objects.filter(name="live_back").update(last_run_at=now - DAY)
    Incident.objects.create(metric="error_rate", title="Many errors", severity="critical", opened_at=now,
                            last_breach_at=now)  # fmt: skip
    lines = [{"at": now.isoformat(), "level": "error", "cause": "Disk of %s", "message": "Disk of x"}] * 3
    logged = "\n".join(["Press Ctrl+C to exit", *map(json.dumps, lines), "{broken\n"])
    (var / "log" / "host-1.log").write_text(logged)
    with pytest.raises(SystemExit):
        call_command("maintenance", "daily")
    printed = capsys.readouterr().out
    for words in ("Sessions: 1 logged_out", "1 accounts wait for a person", "There is no backup at", "Many errors",
                  "3 × Disk of %s (host-1;", "Late jobs: live_back"):  # fmt: skip
        assert words in printed
    (var / "backups" / f"waserver-{now - 3 * DAY:%Y%m%dT%H%M%S}Z-daily.tar.gz.age").touch()
    assert "is 3 days old" in daily.backup(now, False).troubles[0]
    (var / "backups" / f"waserver-{now:%Y%m%dT%H%M%S}Z-daily.tar.gz.age").touch()
    assert daily.backup(now, False).troubles == []


@pytest.mark.django_db
def test_monthly_names_slow_routes_full_hosts_and_slow_queries(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = timezone.now()
    RequestCount.objects.create(at=now - DAY, span=Span.HOUR, route="GET /api/v1/messages", count=10, errors=1,
                                buckets={"40": 10})  # fmt: skip
    hosts("host-1", heartbeat_at=now, capacity=1)
    session = Account.objects.create(label="a").session
    Session.objects.filter(pk=session.pk).update(store="1.sqlite3")
    text, table, error = map(connection.ops.quote_name, ("text", "messaging_message", "error"))
    SlowQuery.objects.create(at=now, statement=f"SELECT {text} FROM {table} WHERE {error} = %s", worst=2.5)
    assert "GET /api/v1/messages takes 7" in monthly.performance(now, False).troubles[0]
    found = monthly.capacity(now, False)
    assert "1 paired sessions, room for 1" in found.lines[0]
    assert any(line.endswith("1 rows  accounts_account") for line in found.lines)
    assert "full to 100 %" in found.troubles[0]
    lines = slow_queries.review(now, False).lines
    assert "1 times, up to 2.50 s" in lines[0]
    assert "whole of messaging_message is read: an index on (error) would help" in lines[1]
    with pytest.raises(SystemExit):
        call_command("maintenance", "monthly", "--without", "dependencies")
    assert "Slow queries" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize(("statement", "words"), [
    ("UPDATE sessions_app_session SET state = %s", "a write"),
    ("SELECT COUNT(*) AS n FROM accounts_account WHERE id = %s", "a count"),
    ("SELECT id FROM accounts_account WHERE id = %s ORDER BY label", "everything is sorted"),
    ("SELECT id FROM accounts_account WHERE id = %s AND label LIKE '%%x'", "search within texts"),
    ("SELECT id FROM accounts_account WHERE id = %s", "an index is used"),
    ("SELECT nonsense FROM", "an index is used"),
])  # fmt: skip
def test_every_slow_query_gets_a_suggestion(statement: str, words: str) -> None:
    assert words in slow_queries.suggestion(statement, slow_queries.plan(statement))


def test_differences_from_the_pins_are_named(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\nDjango==1.0\nno-such-package==1.0\npytest==9.2.0\n-r other.txt\n")
    found = dependencies.differences(file)
    assert len(found) == 2
    assert "and 1.0 was tested" in found[0]
    assert "no-such-package is not installed" in found[1]


def test_weaknesses_are_told_with_what_mends_them() -> None:
    found = dependencies.read({"dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]},
        {"name": "b", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]},
        {"name": "c", "version": "1", "vulns": []},
    ]})  # fmt: skip
    assert found.lines == ["3 packages looked up, 2 with known weaknesses."]
    assert found.troubles == ["a 1 has CVE-1: install 2.", "b 1 has CVE-2: no version without it is known yet."]


def test_without_a_network_the_audit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setattr(dependencies, "PATIENCE", 0.01)
    assert "could not be looked up" in dependencies.audit().lines[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install pip-audit" in dependencies.audit().lines[0]


@pytest.mark.django_db
def test_a_task_that_fails_does_not_hold_up_the_others(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessions_app.cleanup.empty_quarantine", lambda now: 1 / 0)
    done = {task.name: outcome for task, outcome in maintenance.run("weekly", timezone.now())}
    assert "could not be done" in done["stores"].troubles[0]
    assert done["logs"].troubles == []
    assert set(done) == {"restart", "stores", "restored", "logs"}
