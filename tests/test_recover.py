"""`manage.py recover`: what it refuses, and that a refusal changes nothing; damaged keys. The emergency itself is the
drill's (test_drill.py)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from accounts.models import Account
from sessions_app.models import Host, Session, SessionEvent
from tests.installation import ROOT, fresh
from waserver import guard, recovery, tree
from waserver.damage import quarantine
from waserver.store_check import Verdict, check

# MariaDB's CHECK TABLE ends a transaction: a test within one would leave its rows to the others.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    settings.VAR_DIR, settings.DEVICES_DIR = tmp_path, tmp_path / "devices"
    settings.RUN_DIR, settings.LOG_DIR = tmp_path / "run", tmp_path / "log"
    for one in (settings.DEVICES_DIR, settings.RUN_DIR, settings.LOG_DIR):
        one.mkdir()
    yield tmp_path
    os.chmod(tmp_path, 0o700)


def store(folder: Path, name: str = "a.sqlite3") -> Path:
    """A store with a device in it, as far as we look."""
    path = folder / "devices" / name
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
        database.execute("CREATE TABLE filler (text TEXT)")
        database.execute("INSERT INTO whatsmeow_device VALUES ('1')")
        database.executemany("INSERT INTO filler VALUES (?)", [("x" * 500,) for _ in range(200)])
    database.close()
    return path


def session(name: str = "a.sqlite3", **fields: Any) -> Session:
    row: Session = Account.objects.create(label=name).session
    Session.objects.filter(pk=row.pk).update(store=name, state="connected", **fields)
    return fresh(row)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:40_000] = b"\xa5" * (40_000 - 4096)
    path.write_bytes(content)


def test_stores_are_told_apart(folder: Path) -> None:
    whole, empty, broken, no_database = (store(folder, f"{n}.sqlite3") for n in range(4))
    with sqlite3.connect(empty) as database:
        database.execute("DELETE FROM whatsmeow_device")
    database.close()
    damage(broken)
    no_database.write_bytes(b"nonsense" * 1000)
    missing = folder / "devices" / "9.sqlite3"
    found = check([str(path) for path in (no_database, whole, empty, missing, broken)])
    assert {Path(store): found[store][0] for store in found} == {
        whole: Verdict.WHOLE, empty: Verdict.EMPTY, broken: Verdict.DAMAGED, no_database: Verdict.DAMAGED,
        missing: Verdict.MISSING,
    }  # fmt: skip
    assert check([]) == {}


def test_a_store_that_is_locked_is_not_called_damaged(folder: Path) -> None:
    path = store(folder)
    path.write_bytes(b"")
    path.unlink()
    path.mkdir()
    assert check([str(path)])[str(path)][0] is Verdict.MISSING


def test_damaged_keys_are_set_aside_whole_and_the_session_says_so(folder: Path) -> None:
    path, row = store(folder), session()
    Path(f"{path}-wal").write_bytes(b"log")
    damage(path)
    content = path.read_bytes()
    lies = quarantine(row, "malformed", "recover")
    assert lies is not None
    assert lies.read_bytes() == content
    assert Path(f"{lies}-wal").read_bytes() == b"log"
    assert not list((folder / "devices").glob("*.sqlite3*"))
    row = fresh(row)
    assert (row.state, row.hold, row.reason, row.store) == ("stopped", "store_damaged", "store_damaged", "a.sqlite3")
    event = SessionEvent.objects.filter(session=row).latest("pk")
    assert (event.kind, event.actor, event.after) == ("stopped", "recover", "stopped")
    from sessions_app.cleanup import cleanup

    cleanup(timezone.now())
    assert lies.exists(), "this quarantine is never emptied by itself"


def test_keys_a_host_owns_are_left_alone(folder: Path) -> None:
    path = store(folder)
    row = session(host=Host.objects.create(name="host-1"))
    assert quarantine(row, "malformed", "recover") is None
    assert path.exists()
    assert fresh(row).hold == ""


def test_two_recoveries_at_once_are_refused(folder: Path) -> None:
    with guard.lock(folder / "run", "recover.lock"), pytest.raises(CommandError, match="Another recovery is under way"):
        call_command("recover", "--yes")


def test_without_a_terminal_it_wants_to_be_told(folder: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "recover"], cwd=ROOT, env={**os.environ, "VAR_DIR": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert answer.returncode == 1
    wanted = "CommandError: This stops and restarts the server: say --yes, or --dry-run to see what it would do."
    assert answer.stderr.strip() == wanted


def test_what_a_killed_host_left_in_the_rows_is_not_called_connected(folder: Path) -> None:
    now, said = timezone.now(), list[str]()
    lease = {"lease_expires_at": now + timedelta(seconds=30)}
    ours = Host.objects.create(name="host-1", machine=tree.machine(), heartbeat_at=now)
    other = Host.objects.create(name="host-2", machine="another machine", heartbeat_at=now)
    before, after = {"connected_at": now - timedelta(hours=1)}, {"connected_at": now + timedelta(seconds=1)}
    session("nobody's", **before)
    session("claimed, not yet looked at", host=ours, **lease, **before)
    session("never stopped", host=other, **lease, **before)
    session("back", host=ours, **lease, **after)
    session("lost again", host=ours, lease_expires_at=now - timedelta(seconds=1), **after)
    recovery.await_sessions(report := recovery.Report(said.append), now, timedelta())
    assert "2 of 5 sessions are connected again" in said[0]
    left = " ".join(report.left)
    assert all(name in left for name in ("nobody's", "claimed, not yet looked at", "lost again"))
    assert "never stopped" not in left


def test_a_full_disk_is_refused_before_anything_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(folder)
    row = session(host=Host.objects.create(name="host-1"))
    full = shutil.disk_usage(folder)._replace(free=recovery.ROOM - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: full)
    with pytest.raises(CommandError, match=r"Only 50 MB are free .* make room, .* Nothing was changed"):
        call_command("recover", "--yes")
    assert path.exists()
    assert str(fresh(row).host) == "host-1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder somebody else's")
def test_root_does_not_touch_what_belongs_to_the_servers_user(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    with pytest.raises(CommandError, match="belongs to nobody: run this as nobody"):
        call_command("recover", "--yes")


def test_no_permission_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(folder)
    may = os.access
    # As root every file may be written; what the system would say to another user:
    monkeypatch.setattr(os, "access", lambda file, mode: Path(file) != path and may(file, mode))
    with pytest.raises(CommandError, match="No permission to read and write .*a.sqlite3"):
        call_command("recover", "--yes")


def test_a_damaged_database_is_refused_with_the_way_out(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["VAR_DIR"] = str(folder)

    def manage(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, capture_output=True,
                              text=True, check=False, timeout=100)  # fmt: skip

    assert manage("migrate").returncode == 0
    database = folder / "waserver.sqlite3"
    content = bytearray(database.read_bytes())
    for page in range(8192, len(content) - 4096, 3 * 4096):
        content[page : page + 2000] = b"\xa5" * 2000
    database.write_bytes(content)
    answer = manage("recover", "--yes")
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert "The database is damaged" in answer.stderr
    assert "`manage.py backup restore`. Nothing was changed" in answer.stderr
    assert database.read_bytes() == content


def test_a_dry_run_changes_nothing_and_names_what_is_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, row = store(folder), session()
    damage(path)
    before = fresh(row).__dict__ | {"_state": None}
    call_command("recover", "--dry-run")
    printed = capsys.readouterr().out
    assert "0 of 1 are whole" in printed
    assert "a.sqlite3: damaged" in printed
    assert "Nothing was done." in printed
    assert path.exists()
    after = fresh(row).__dict__ | {"_state": None}
    assert {k: v for k, v in after.items() if k[0] != "_"} == {k: v for k, v in before.items() if k[0] != "_"}


def test_keys_in_a_postgresql_that_does_not_answer_are_refused(folder: Path, settings: Any) -> None:
    settings.DEVICE_STORE_URL = "postgres://u@127.0.0.1:1/x"
    row, words = session("postgres:wa_65e00000_1_abcdef"), "does not answer .* check DEVICE_STORE_URL"
    with pytest.raises(CommandError, match=f"{words}.* Nothing was changed"):
        call_command("recover", "--dry-run")
    with pytest.raises(CommandError, match=words):
        call_command("recover", "session", str(row.pk))


def test_keys_in_a_postgresql_of_the_past_hold_up_no_other(
    folder: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.DEVICE_STORE_URL = ""
    store(folder)
    session()
    row = session("postgres:wa_65e00000_1_abcdef")
    call_command("recover", "--dry-run")
    printed = capsys.readouterr().out
    assert "1 of 2 are whole" in printed
    assert f"{row}: unreadable (The keys of this account are in PostgreSQL, and DEVICE_STORE_URL" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["session"], "Which session"),
        (["session", "nobody"], "There is no session “nobody”"),
        (["session", "unpaired"], "has no keys: pair it with `manage.py recover session"),
        (["session", "a.sqlite3"], "were set aside in"),
        (["session", "gone.sqlite3"], "cannot be used .the file is not there"),
        (["--re-pair"], "is for one session"),
    ],
)
def test_one_session_is_refused_with_the_next_step(folder: Path, arguments: list[str], words: str) -> None:
    Account.objects.create(label="unpaired")
    path = store(folder)
    session()
    session("gone.sqlite3")
    damage(path)
    with pytest.raises(CommandError, match=words):
        call_command("recover", *arguments)
