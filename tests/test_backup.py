"""Backups: what is inside, and what is refused, each with one sentence and nothing changed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from accounts.models import Account
from sessions_app.models import Session
from tests.installation import ROOT
from waserver import backup
from waserver.backup import BackupError, Damaged, WrongKey, archive, database, key, lock, target
from waserver.backup.archive import Manifest

DATABASE = database.MEMBER[database.engine()]
NOW = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)


def device_store(file: Path, rows: int = 1) -> None:
    """Make what the library makes, as far as a backup looks at it."""
    with contextlib.closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("CREATE TABLE whatsmeow_device (jid TEXT, noise BLOB)")
        store.executemany("INSERT INTO whatsmeow_device VALUES (?, ?)", [(str(n), os.urandom(64)) for n in range(rows)])
        store.commit()


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """An installation's var/, with a key and a target of its own."""
    for name in ("devices", "run", "log"):
        (tmp_path / name).mkdir()
    settings.VAR_DIR, settings.DEVICES_DIR, settings.RUN_DIR = tmp_path, tmp_path / "devices", tmp_path / "run"
    settings.BACKUP_URL, settings.BACKUP_KEY = str(tmp_path / "backups"), ""
    settings.BACKUP_KEY_FILE = str(tmp_path / "backup.key")
    return tmp_path


@pytest.fixture
def account(folder: Path, transactional_db: None) -> Session:
    """One paired account."""
    session: Session = Account.objects.create(label="Front office", phone="6281200000001").session
    device_store(folder / "devices" / "1.sqlite3")
    Session.objects.filter(pk=session.pk).update(store="1.sqlite3", state="stopped")
    return session


#: Writes two rows in each transaction.
WRITER = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=9)
store.execute("DELETE FROM whatsmeow_device")
print("on", flush=True)
for n in range(100000):
    store.execute("BEGIN IMMEDIATE")
    for _ in "ab":
        store.execute("INSERT INTO whatsmeow_device VALUES (?, 1)", (n,))
    store.execute("COMMIT")
"""


def written(folder: Path, **fields: Any) -> tuple[bytes, pyrage.x25519.Identity]:
    """Return a small archive, and its key."""
    (folder / "a.txt").write_bytes(os.urandom(500))
    values = {
        "kind": "backup", "created_at": NOW.isoformat(), "machine": "m", "reason": "", "engine": "sqlite",
        "migrations": [], "counts": {}, "members": [archive.member("a.txt", folder / "a.txt")], **fields,
    }  # fmt: skip
    identity, out = pyrage.x25519.Identity.generate(), io.BytesIO()
    archive.write(out, Manifest(**values), folder, identity)
    return out.getvalue(), identity


def test_a_backup_holds_the_database_every_store_and_the_secret_key(
    account: Session, folder: Path, settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = backup.create("by hand")
    assert made.name.endswith("Z-by_hand.tar.gz.age")
    assert made.warnings[0].startswith("A NEW BACKUP KEY WAS MADE")
    assert made.counts == {"accounts": 1, "stores": 1, "stores_elsewhere": 0, "media": 0, "damaged": 0, "missing": 0,
                           "bytes": made.size, "pruned": 0}  # fmt: skip
    kept = tmp_path_factory.mktemp("kept")
    with target.Target().open(made.name) as source:
        manifest = archive.read(source, key.load(), kept)
    assert manifest == made.manifest
    assert (kept / "secret_key").read_text() == settings.SECRET_KEY
    assert b"Front office" in (kept / DATABASE).read_bytes()
    with contextlib.closing(sqlite3.connect(kept / "devices/1.sqlite3")) as store:
        assert len(store.execute("SELECT noise FROM whatsmeow_device").fetchall()) == 1
    modes = {path.stat().st_mode & 0o077 for path in (folder / "backup.key", folder / "backups" / made.name)}
    assert modes == {0}
    assert not list(folder.glob("backup-staging-*"))


def test_the_plain_tools_open_it_too(account: Session, folder: Path) -> None:
    made = backup.create()
    packed = pyrage.decrypt((folder / "backups" / made.name).read_bytes(), [key.load()])
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["manifest.json", DATABASE, "devices/1.sqlite3", "secret_key"]


def test_a_second_backup_needs_no_warning_and_old_ones_go(account: Session, folder: Path, settings: Any) -> None:
    backup.create("one")
    for n in range(3):
        name = target.archive_name(NOW - timedelta(days=n + 1), "old")
        (folder / "backups" / name).write_bytes(b"old")
    (folder / "backups" / "notes.txt").write_text("not an archive")
    settings.BACKUP_KEEP = 3
    made = backup.create("two")
    assert (made.warnings, made.pruned) == ([], 2)
    assert len(target.Target().list()) == 3
    assert (folder / "backups" / "notes.txt").exists()


def test_stores_in_use_are_copied_as_they_are_at_one_moment(account: Session, folder: Path) -> None:
    """Another process writes two rows in one transaction, all the time: never is one of them alone in the copy."""
    store = folder / "devices" / "1.sqlite3"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(store)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        for n in range(5):
            copy = folder / f"copy-{n}"
            database.copy_sqlite(store, copy)
            with contextlib.closing(sqlite3.connect(copy)) as copied:
                assert copied.execute("SELECT count(*) % 2 FROM whatsmeow_device").fetchone() == (0,)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_a_store_that_cannot_be_read_is_copied_as_it_is_and_named(account: Session, folder: Path) -> None:
    (folder / "devices" / "1.sqlite3").write_bytes(b"no database at all")
    made = backup.create()
    assert made.manifest.damaged == ["devices/1.sqlite3"]
    assert any("cannot be read" in warning for warning in made.warnings)
    (folder / "devices" / "1.sqlite3").unlink()
    made = backup.create()
    assert made.manifest.missing == ["1.sqlite3"]


def test_keys_in_a_postgresql_nobody_named_are_said_not_to_be_covered(
    account: Session, folder: Path, settings: Any
) -> None:
    settings.DEVICE_STORE_URL = ""
    Session.objects.update(store="postgres:wa_00000000_1_abcdef")
    made = backup.create()
    assert made.manifest.missing == []
    assert any("1 accounts are in PostgreSQL and NOT in this backup: DEVICE_STORE_URL" in one for one in made.warnings)


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    content, identity = written(tmp_path)
    archive.read(io.BytesIO(content), identity)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises((Damaged, WrongKey)):
            archive.read(io.BytesIO(bytes(flipped)), identity)


def test_a_flipped_byte_in_a_large_archive_is_found(account: Session, folder: Path) -> None:
    (folder / "devices" / "2.sqlite3").write_bytes(os.urandom(400_000))  # several chunks of age
    made = backup.create()
    content, identity = (folder / "backups" / made.name).read_bytes(), key.load()
    for position in range(0, len(content), len(content) // 50):
        flipped = bytearray(content)
        flipped[position] ^= 0x40
        with pytest.raises((Damaged, WrongKey)):
            archive.read(io.BytesIO(bytes(flipped)), identity)


def test_an_archive_cut_anywhere_is_found(tmp_path: Path) -> None:
    content, identity = written(tmp_path)
    for length in range(0, len(content), 7):
        with pytest.raises(BackupError):
            archive.read(io.BytesIO(content[:length]), identity)


def test_a_member_that_is_not_what_the_manifest_says_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    other = archive.Member("a.txt", 1, "0" * 64)
    content, identity = written(tmp_path, members=[other])
    with pytest.raises(Damaged, match="a.txt is not what was written"):
        archive.read(io.BytesIO(content), identity)


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    for name in ("../a.txt", "/a.txt", "x/../../a.txt"):
        content, identity = written(tmp_path, members=[])
        manifest = Manifest(**{**_fields(), "members": [archive.Member(name, 0, "")]})
        out = io.BytesIO()
        (tmp_path / "a.txt").touch()
        with contextlib.suppress(OSError):
            archive.write(out, manifest, tmp_path, identity)
        with pytest.raises(BackupError):
            archive.read(io.BytesIO(out.getvalue()), identity, tmp_path / "kept")
        assert not (tmp_path / "kept").exists()


def _fields() -> dict[str, Any]:
    return {"kind": "backup", "created_at": NOW.isoformat(), "machine": "m", "reason": "", "engine": "sqlite",
            "migrations": [], "counts": {}}  # fmt: skip


def test_an_archive_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    content, identity = written(tmp_path, format=archive.FORMAT + 1)
    with pytest.raises(BackupError, match="newer waserver"):
        archive.read(io.BytesIO(content), identity)


def test_another_key_is_told(account: Session, folder: Path, settings: Any) -> None:
    made = backup.create()
    settings.BACKUP_KEY = str(pyrage.x25519.Identity.generate())
    with target.Target().open(made.name) as source, pytest.raises(WrongKey, match="made with another"):
        archive.read(source, key.load())


@pytest.mark.parametrize("text", ["", "secret", "AGE-SECRET-KEY-1XXXX", "a\nb"])
def test_what_is_no_key_is_refused(folder: Path, text: str) -> None:
    (folder / "backup.key").write_text(text)
    with pytest.raises(BackupError, match="does not hold a backup key"):
        key.load_or_make()
    assert (folder / "backup.key").read_text() == text


def test_a_missing_key_is_told_and_not_made_for_reading(folder: Path) -> None:
    with pytest.raises(BackupError, match="no backup key"):
        key.load()
    assert not (folder / "backup.key").exists()


def test_two_at_once_are_refused(account: Session, folder: Path) -> None:
    with lock.workplace(), pytest.raises(BackupError, match="under way"):
        backup.create()


def test_a_place_that_cannot_be_used_is_one_sentence(folder: Path, settings: Any) -> None:
    (folder / "file").touch()
    for url, words in (("nowhere://x", "Protocol not known"), (str(folder / "file"), "cannot be used")):
        settings.BACKUP_URL = url
        with pytest.raises(BackupError, match=words):
            target.Target().list()
    settings.BACKUP_URL = str(folder)
    with pytest.raises(BackupError, match="There is no archive nothing"), target.Target().open("nothing"):
        pass
    with pytest.raises(BackupError, match="There is no backup at"):
        target.Target().newest()


def test_any_fsspec_target_will_do(account: Session, folder: Path, settings: Any) -> None:
    settings.BACKUP_URL = "memory://archives/waserver"
    made = backup.create()
    assert [one.name for one in target.Target().list()] == [made.name]
    assert target.Target().prune(1) == 0


def _limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("limit", [4_000, 600_000])
def test_a_full_disk_leaves_the_old_backups_and_nothing_half_made(
    account: Session, folder: Path, settings: Any, limit: int
) -> None:
    """The limit stands for the disk: writing beyond it fails, once in the copies, once in the archive."""
    backup.create("good")
    for n in (2, 3):
        (folder / "devices" / f"{n}.sqlite3").write_bytes(os.urandom(500_000))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    environment = {**os.environ, "VAR_DIR": str(folder), "DATABASE_URL": f"sqlite:///{_database()}"}
    answer = subprocess.run(
        [sys.executable, "manage.py", "backup", "create"], cwd=ROOT, env=environment, capture_output=True, text=True,
        preexec_fn=_limited(limit), timeout=180, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_too_little_room_is_seen_before_anything_is_copied(
    account: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(BackupError, match="make room"):
        backup.create()


def test_reading_does_not_hang_when_the_reader_stops_early(tmp_path: Path) -> None:
    content, identity = written(tmp_path)
    before = threading.active_count()
    manifest = archive.manifest_of(io.BytesIO(content), identity)
    assert manifest.members[0].name == "a.txt"
    assert threading.active_count() == before
    assert json.loads(json.dumps(manifest.counts)) == {}


def _database() -> str:
    from django.db import connection

    return str(connection.settings_dict["NAME"])
