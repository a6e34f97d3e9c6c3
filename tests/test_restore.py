"""Restoring: into nothing, over what is there, and every refusal with the old state untouched."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from django.utils import timezone

from tests.installation import ROOT

KEY = str(pyrage.x25519.Identity.generate())


class Place:
    """An installation of its own: a folder, used through manage.py alone."""

    def __init__(self, folder: Path, backups: Path) -> None:
        self.var = folder
        left_out = ("SECRET_KEY", "DATABASE_URL", "DEVICE_STORE_URL", "REDIS_URL")
        self.environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self.environment |= {"VAR_DIR": str(folder), "BACKUP_URL": str(backups), "BACKUP_KEY": KEY}

    def run(self, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **more.pop("environment", {})}
        return subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, capture_output=True,
                              text=True, timeout=120, check=False, **more)  # fmt: skip

    def manage(self, *command: str) -> str:
        """Run a command that must succeed; return what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *command: str, **more: Any) -> str:
        """Run a command that must be refused with one sentence and leave everything as it is; return the sentence."""
        before = self.contents()
        done = self.run(*command, **more)
        assert done.returncode == 1, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert self.contents() == before
        return done.stderr

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.var / "waserver.sqlite3", timeout=20)) as database:
            rows = database.execute(statement, values).fetchall()
            database.commit()
            return rows

    def store(self, name: str, words: str) -> Path:
        """Make a device store that holds a device."""
        file = self.var / "devices" / name
        file.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(file)) as store:
            store.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
            store.execute("INSERT INTO whatsmeow_device VALUES (?)", [words])
            store.commit()
        return file

    def words(self, name: str) -> str:
        """Return what `store` wrote."""
        with contextlib.closing(sqlite3.connect(self.var / "devices" / name)) as store:
            return str(store.execute("SELECT jid FROM whatsmeow_device").fetchone()[0])

    def contents(self) -> dict[str, bytes]:
        """Return every file that must not change."""
        leave_out = (".writable", "-shm", "-wal", ".lock")
        return {str(path): path.read_bytes() for path in self.var.rglob("*")
                if path.is_file() and not path.name.endswith(leave_out)}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An installation with one paired account, one message queued and one planned, and a backup of it."""
    root = tmp_path_factory.mktemp("restore")
    place = Place(root / "var", root / "backups")
    place.manage("migrate", "-v0")
    place.manage("accounts", "add", "Front office", "--phone", "+62 812 0000 0001", "--proxy", "http://u:pw@proxy.example:80")
    place.store("1.sqlite3", "of the backup")
    place.sql("UPDATE sessions_app_session SET store = '1.sqlite3', state = 'connected', "
              "lease_epoch = 7, qr_text = 'a'")  # fmt: skip
    place.manage("shell", "-c", _MESSAGES)
    place.manage("backup", "create")
    return place


_MESSAGES = """
from datetime import timedelta
from django.utils import timezone
from accounts.models import Account
from messaging.kinds import Kind
from messaging.models import Chat, Message
from sessions_app.models import Host, Session
account = Account.objects.get()
chat = Chat.objects.create(account=account, jid="6281200000002@s.whatsapp.net")
Message.queue(chat, Kind.TEXT, {"text": "now"})
Message.queue(chat, Kind.TEXT, {"text": "in a year"}, send_at=timezone.now() + timedelta(days=365))
host = Host.objects.create(name="host-9", heartbeat_at=timezone.now() - timedelta(hours=1))
Session.objects.update(host=host)
account.session.request_restart("ana")
"""


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy of that installation, sharing its backup."""
    shutil.copytree(made.var, tmp_path / "var")
    return Place(tmp_path / "var", Path(made.environment["BACKUP_URL"]))


def test_into_nothing_everything_comes_back_and_what_time_has_changed_is_settled(place: Place) -> None:
    shutil.rmtree(place.var)
    printed = json.loads(place.manage("backup", "restore", "--yes", "--json"))
    assert (printed["restored"], printed["accounts"], printed["stores"]) == (True, 1, 1)
    assert (printed["uncertain"], printed["commands"]) == (1, 1)
    assert place.words("1.sqlite3") == "of the backup"
    # The secret key fits.
    assert json.loads(place.manage("accounts", "list", "--json"))[0]["proxy"] == "http://•••@proxy.example:80"
    session = place.sql("SELECT state, host_id, lease_epoch, due_at IS NULL, qr_text FROM sessions_app_session")
    assert session == [("connected", None, 1007, 0, "")]
    assert place.sql("SELECT text, state FROM messaging_message ORDER BY id") == [
        ("now", "uncertain"), ("in a year", "queued"),
    ]  # fmt: skip
    assert place.sql("SELECT count(*) FROM sessions_app_host WHERE ended_at IS NULL") == [(0,)]
    place.run("shell", "-c", "from messaging.models import *; from messaging.models.event import EventKind; "
              "Event.append(EventKind.TEST, None, {}); Event.objects.publish()")  # fmt: skip
    newest = place.sql("SELECT max(id), max(position) FROM messaging_event")[0]
    assert min(newest) > 1_000_000  # no id or position that a receiver may have seen is given again
    modes = {path.name for path in place.var.rglob("*") if path.is_file() and path.stat().st_mode & 0o077}
    assert modes <= {"backup.lock", "tree.lock", "waserver.sqlite3"}  # var/ itself is ours alone


def test_over_what_is_there_the_old_goes_into_quarantine(place: Place) -> None:
    os.utime(place.store("1.sqlite3", "older"), (0, 0))
    os.utime(place.store("2.sqlite3", "older too"), (0, 0))
    place.sql("UPDATE accounts_account SET label = 'Changed since'")
    assert "would be restored" in place.manage("backup", "restore", "--dry-run")
    assert place.words("1.sqlite3") == "older"
    place.manage("backup", "restore", "--yes")
    assert place.words("1.sqlite3") == "of the backup"
    assert place.sql("SELECT label FROM accounts_account") == [("Front office",)]
    (away,) = (place.var / "quarantine").iterdir()
    assert sorted(path.name for path in (away / "devices").iterdir()) == ["1.sqlite3", "2.sqlite3"]
    with contextlib.closing(sqlite3.connect(away / "waserver.sqlite3")) as old:
        assert old.execute("SELECT label FROM accounts_account").fetchall() == [("Changed since",)]
    assert not (place.var / "restore.journal").exists()


_FILES = """
from messaging.models import Media
for content in (b"kept", b"lost"):
    print(Media.store(content, "text/plain").path)
"""


def test_files_of_messages_are_put_back_where_they_are_missing(place: Place, tmp_path: Path) -> None:
    kept, lost = (place.var / "media" / path for path in place.manage("shell", "-v0", "-c", _FILES).split()[-2:])
    (lost.parent / f"{lost.name}.1.part").write_bytes(b"being written")
    place.environment["BACKUP_URL"] = str(tmp_path / "without")
    assert "BACKUP_MEDIA=true" in place.manage("backup", "create")
    place.environment |= {"BACKUP_URL": str(tmp_path / "with"), "BACKUP_MEDIA": "true"}
    assert "2 files of messages" in place.manage("backup", "create")
    assert "2 files of messages" in place.manage("backup", "verify")
    lost.unlink()
    inode = kept.stat().st_ino
    assert "2 files of messages" in place.manage("backup", "restore", "--dry-run")
    assert not lost.exists()
    assert json.loads(place.manage("backup", "restore", "--yes", "--json"))["media"] == 2
    assert (lost.read_bytes(), lost.stat().st_mode & 0o077) == (b"lost", 0)
    assert (kept.read_bytes(), kept.stat().st_ino) == (b"kept", inode)


def test_keys_that_are_newer_are_not_replaced_unless_forced(place: Place) -> None:
    place.store("1.sqlite3", "newer")
    assert "1.sqlite3. Older keys lose messages" in place.refused("backup", "restore", "--yes")
    done = place.run("backup", "restore", "--yes", "--force")
    assert done.returncode == 0, done.stderr
    assert "Forced: Device keys here are newer" in done.stderr
    assert place.words("1.sqlite3") == "of the backup"


def test_the_same_keys_are_not_newer_whatever_the_clock_says(place: Place) -> None:
    os.utime(place.var / "devices" / "1.sqlite3")
    place.manage("backup", "restore", "--yes")


def test_beside_a_living_owner_it_is_refused(place: Place) -> None:
    place.sql("UPDATE sessions_app_host SET heartbeat_at = ?", f"{timezone.now():%Y-%m-%d %H:%M:%S.%f}")
    assert "waserver is running: session host host-9" in place.refused("backup", "restore", "--yes")


def test_beside_a_process_whose_database_is_gone_it_is_refused_too(place: Place) -> None:
    cluster = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "qcluster"],
                               env=place.environment, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert cluster.stdout is not None
        cluster.stdout.readline()
        (place.var / "waserver.sqlite3").unlink()
        answer = place.run("backup", "restore", "--yes")
        assert f"qcluster (process {cluster.pid})" in answer.stderr
    finally:
        cluster.kill()
        cluster.communicate()


def test_it_asks_and_without_a_terminal_wants_yes(place: Place) -> None:
    assert "Say so with --yes" in place.refused("backup", "restore")


def _wrong(place: Place, tmp_path: Path, how: str) -> tuple[list[str], dict[str, str]]:
    archive = next(Path(place.environment["BACKUP_URL"]).glob("*.age"))
    content = archive.read_bytes()
    if how == "another key":
        return [str(archive)], {"BACKUP_KEY": str(pyrage.x25519.Identity.generate())}
    if how == "another secret key":
        return [str(archive)], {"SECRET_KEY": "another"}
    file = tmp_path / "wrong.age"
    file.write_bytes(content[: len(content) // 2] if how == "cut" else b"x" + content[1:])
    return [str(file)], {}


@pytest.mark.parametrize(
    ("how", "words"),
    [("another key", "made with another"), ("another secret key", "SECRET_KEY is not the one"),
     ("cut", "damaged or cut short"), ("flipped", "damaged or cut short")],
)  # fmt: skip
def test_what_cannot_be_restored_is_refused(place: Place, tmp_path: Path, how: str, words: str) -> None:
    arguments, environment = _wrong(place, tmp_path, how)
    assert words in place.refused("backup", "restore", *arguments, "--yes", environment=environment)


def test_an_archive_that_is_not_there_and_a_key_that_is_not_there_are_refused(place: Place) -> None:
    assert "There is no archive nothing.age" in place.refused("backup", "restore", "nothing.age", "--yes")
    assert "no backup key" in place.refused("backup", "restore", "--yes", environment={"BACKUP_KEY": ""})


def _limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("limit", [1_000, 100_000])
def test_a_full_disk_leaves_the_old_state(place: Place, limit: int) -> None:
    assert "File too large" in place.refused("backup", "restore", "--yes", preexec_fn=_limited(limit))


#: Restores, and comes to grief at the last rename.
INTERRUPTED = """
import os, pathlib, runpy, signal, sys
real, how = pathlib.Path.rename, sys.argv[1]
def rename(self, target):
    if "staging" in str(self) and str(target).endswith("var/waserver.sqlite3"):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(28, "No space left on device")
    return real(self, target)
pathlib.Path.rename, sys.argv = rename, ["manage.py", "backup", "restore", "--yes"]
sys.path.insert(0, "")
runpy.run_path("manage.py", run_name="__main__")
"""


def interrupted(place: Place, how: str) -> subprocess.CompletedProcess[str]:
    os.utime(place.store("0.sqlite3", "moved first"), (0, 0))
    return subprocess.run([sys.executable, "-c", INTERRUPTED, how], cwd=ROOT, env=place.environment, text=True,
                          capture_output=True, timeout=120, check=False)  # fmt: skip


def test_a_rename_that_fails_takes_the_others_back(place: Place) -> None:
    before = place.contents()
    done = interrupted(place, "fail")
    assert "No space left on device. Nothing was changed." in done.stderr
    assert {path: place.contents().get(path) for path in before} == before
    assert place.words("0.sqlite3") == "moved first"


def test_what_a_killed_restore_had_begun_is_taken_back_by_the_next_command(place: Place) -> None:
    before = place.contents()
    assert interrupted(place, "kill").returncode < 0
    assert not (place.var / "waserver.sqlite3").exists()
    done = place.run("backup", "create", environment={"BACKUP_URL": str(place.var.parent / "others")})
    assert done.returncode == 0, done.stderr
    assert {path: place.contents().get(path) for path in before} == before
    assert place.words("0.sqlite3") == "moved first"
    assert not (place.var / "restore.journal").exists()


def test_a_backup_of_an_older_version_is_migrated_forward(place: Place) -> None:
    """Taken back to the state before the last migration of sessions_app, backed up, restored."""
    names = sorted(p.stem for p in (ROOT / "sessions_app" / "migrations").glob("0*.py"))
    if place.run("migrate", "sessions_app", names[-2], "-v0").returncode:
        pytest.fail("the last migration cannot be taken back")
    others = {"BACKUP_URL": str(place.var.parent / "others")}
    place.environment |= others
    place.manage("backup", "create")
    place.manage("backup", "restore", "--yes")
    assert place.sql("SELECT count(*) FROM django_migrations WHERE app = 'sessions_app'") == [(len(names),)]


def test_a_restore_within_a_second_of_another_has_a_quarantine_of_its_own(place: Place) -> None:
    for _ in range(2):
        place.manage("backup", "restore", "--yes")
    assert len(list((place.var / "quarantine").iterdir())) == 2


def test_the_daily_job_backs_up_in_a_process_of_its_own(place: Place) -> None:
    others = place.var.parent / "others"
    place.environment |= {"BACKUP_URL": str(others)}
    printed = place.manage("shell", "-c", "from sessions_app import jobs; print(jobs.run('backup'))")
    assert "'accounts': 1, 'stores': 1" in printed
    (made,) = others.iterdir()
    assert made.name.endswith("-daily.tar.gz.age")
    assert place.sql("SELECT cron FROM django_q_schedule WHERE name = 'backup'") == [("15 3 * * *",)]
    place.environment |= {"BACKUP_KEY": "none"}
    failed = place.run("shell", "-c", "from sessions_app import jobs; jobs.run('backup')")
    assert "BackupError: BACKUP_KEY does not hold a backup key" in failed.stderr
    assert "does not hold a backup key" in place.sql("SELECT error FROM sessions_app_job WHERE name = 'backup'")[0][0]
