"""Restoring: everything is unpacked, checked, migrated and settled beside the old, then put in its place by renames.

Until those renames the old state is untouched, and they are taken back when one fails. What was there goes into
quarantine, never away; device stores in PostgreSQL and files of messages that are there stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_app.whatsapp import device_store
from waserver import guard
from waserver.backup import archive, database, files, key, mysql, owners, schemas, stores
from waserver.backup.archive import Manifest
from waserver.backup.errors import BackupError
from waserver.backup.lock import workplace
from waserver.backup.making import SECRET_KEY, told
from waserver.backup.moves import Moves, near
from waserver.backup.target import Target

#: What a restore replaced is kept so long.
QUARANTINE_DAYS = 7
_PARTS = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Restored:
    """What a restore did, or with --dry-run would do."""

    name: str
    manifest: Manifest
    settled: dict[str, int]
    quarantine: str  # where the old state went; "" when there was none
    forced: list[str] = field(default_factory=list)  # what would have been refused
    kept: int = 0  # device stores in PostgreSQL that were there, and stay as they are


def restore(name: str = "", *, force: bool = False, dry_run: bool = False) -> Restored:
    """Put a backup (default: the newest) in the place of what is here. Raises BackupError; then nothing was changed.

    Refuses beside a live server and over device keys that are newer than the backup, unless forced.
    """
    target, identity = Target(), key.load()
    name = name or target.newest()
    forced: list[str] = []

    def object_to(text: str) -> None:
        if not force:
            raise BackupError(text)
        forced.append(text)

    try:
        with guard.lock(settings.RUN_DIR) as alone, workplace() as folder:
            if not alone:
                raise BackupError(
                    _("Another command is starting, stopping or recovering the server: wait for it to end.")
                )
            if running := owners.live():
                text = _("waserver is running: %(programs)s. Stop it first, or restore with --force.")
                object_to(text % {"programs": ", ".join(running)})
            with target.open(name) as source:
                manifest = archive.read(source, identity, folder / "new", _acceptable)
            _check_members(folder / "new", manifest)
            if text := _other_secret_key(folder / "new"):
                object_to(text)
            if newer := _newer_keys(folder, manifest):
                text = _("Device keys here are newer than the backup of %(moment)s: %(names)s. Older keys lose "
                         "messages. Restore with --force to put them in quarantine and use the older "
                         "ones.")  # fmt: skip
                object_to(text % {"moment": manifest.created_at[:19], "names": ", ".join(newer)})
            in_postgres = [name for name, member in manifest.stores.items() if member == schemas.MEMBER]
            if absent := schemas.missing(in_postgres):
                schemas.check(folder / "new" / schemas.MEMBER)
            now = timezone.now()
            place: _SqlitePlace | mysql.Place
            place = _SqlitePlace(folder) if manifest.engine == database.SQLITE else mysql.Place(folder, now)
            with place:
                settled = _bring_forward(folder / "new", place.url)
                if dry_run:
                    quarantine = ""
                else:
                    with schemas.restored(folder / "new" / schemas.MEMBER, in_postgres):
                        quarantine = _put_in_place(folder / "new", place, now)
    except (OSError, sqlite3.Error) as error:
        text = _("The backup could not be restored: %(error)s Nothing was changed.")
        raise BackupError(text % {"error": told(error)}) from None
    return Restored(name, manifest, settled, quarantine, forced, len(in_postgres) - len(absent))


def _acceptable(manifest: Manifest) -> None:
    """Raise BackupError for what cannot be restored here, before anything is unpacked."""
    if manifest.kind != "backup":
        raise BackupError(_("This is the export of one account: `manage.py backup import FILE` takes it."))
    if manifest.engine != database.engine():
        text = _("The backup is of a %(made)s database, and DATABASE_URL names a %(here)s one: set DATABASE_URL to "
                 "what it was made from.")  # fmt: skip
        raise BackupError(text % {"made": manifest.engine, "here": database.engine()})
    known = {f"{app}.{name}" for app, name in MigrationLoader(None, ignore_no_migrations=True).disk_migrations}
    labels = {config.label for config in apps.get_app_configs()}
    unknown = [one for one in manifest.migrations if one not in known and one.partition(".")[0] in labels]
    if unknown:
        text = _("The backup was made by a newer waserver (it knows %(migration)s): install that version first.")
        raise BackupError(text % {"migration": unknown[0]})
    free = shutil.disk_usage(settings.VAR_DIR).free
    if free < 2 * manifest.size:
        text = _("Restoring needs about %(needed).0f MB of room in %(folder)s, and %(free).0f MB are free: make room, "
                 "then try again.")  # fmt: skip
        raise BackupError(text % {"needed": 2 * manifest.size / 1e6, "folder": settings.VAR_DIR, "free": free / 1e6})


def _check_members(folder: Path, manifest: Manifest) -> None:
    names = [one.name for one in manifest.members if one.name.endswith(".sqlite3") and one.name not in manifest.damaged]
    for name in names:
        with contextlib.closing(sqlite3.connect(folder / name)) as opened:
            answer = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            text = _("%(name)s in the backup is not sound (%(error)s): choose an older one.")
            raise BackupError(text % {"name": name, "error": answer})


def _other_secret_key(folder: Path) -> str:
    if "SECRET_KEY" not in os.environ or (folder / SECRET_KEY).read_text() == settings.SECRET_KEY:
        return ""
    return _("SECRET_KEY is not the one of the backup, so stored proxies and webhook secrets could not be read: unset "
             "it to use the backup's, or restore with --force and enter them again.")  # fmt: skip


def _newer_keys(folder: Path, manifest: Manifest) -> list[str]:
    """Return the device stores here that hold keys, changed since the backup and are not the same as in it."""
    archived = {one.name: one.sha256 for one in manifest.members}
    made = datetime.fromisoformat(manifest.created_at).timestamp()
    newer = []
    for file in sorted(settings.DEVICES_DIR.glob("*.sqlite3")):
        written = max(part.stat().st_mtime for suffix in ("", "-wal") if (part := Path(f"{file}{suffix}")).exists())
        if written <= made or not device_store.holds_device(str(file)):
            continue
        copy = folder / "compared.sqlite3"
        with contextlib.suppress(BackupError):
            database.copy_sqlite(file, copy)
        same = copy.exists() and archive.member("", copy).sha256 == archived.get(f"{stores.FOLDER}/{file.name}")
        copy.unlink(missing_ok=True)
        if not same:
            newer.append(file.name)
    return newer


class _SqlitePlace:
    """Where the database comes from and goes to: a file."""

    def __init__(self, folder: Path) -> None:
        self._new = folder / "new" / database.MEMBER[database.SQLITE]
        self._old = Path(connection.settings_dict["NAME"])
        self.url = f"sqlite:///{self._new}"

    def __enter__(self) -> _SqlitePlace:
        return self

    def __exit__(self, *exc: object) -> None:
        self._old.with_name(f".{self._old.name}.restoring").unlink(missing_ok=True)

    def plan(self, moves: Moves, stamp: str) -> None:
        """Add the renames."""
        connections.close_all()
        with contextlib.closing(sqlite3.connect(self._new)) as opened:
            opened.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        away = self._old.parent / "quarantine" / f"restore-{stamp}"
        new = near(self._new, self._old)
        for part in _PARTS:
            if Path(f"{self._old}{part}").exists():
                moves.add(Path(f"{self._old}{part}"), away / f"{self._old.name}{part}")
        moves.add(new, self._old)

    def commit(self) -> None:
        """Nothing is left to do after the renames."""


def _bring_forward(folder: Path, url: str) -> dict[str, int]:
    """Migrate and settle the restored database, in processes that know no other. Raises BackupError."""
    environment = {
        **os.environ, "DATABASE_URL": url, "VAR_DIR": str(folder / "var"),
        "SECRET_KEY": (folder / SECRET_KEY).read_text(),
    }  # fmt: skip
    answer = ""
    for command in (["migrate", "--no-input", "-v0"], ["backup", "settle"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=settings.BASE_DIR, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            words = done.stderr.strip().splitlines() or [_("it said nothing")]
            text = _("The restored database could not be brought up to date (%(command)s: %(error)s). Nothing was "
                     "changed.")  # fmt: skip
            raise BackupError(text % {"command": command[0], "error": words[-1]})
        answer = done.stdout
    counts: dict[str, int] = json.loads(answer)
    return counts


def _put_in_place(folder: Path, place: _SqlitePlace | mysql.Place, now: datetime) -> str:
    """Swap old and new; return where the old went, or ""."""
    stamp = f"{now:%Y%m%dT%H%M%S}"
    away: Path = settings.VAR_DIR / "quarantine" / f"restore-{stamp}"
    moves = Moves()
    for file in sorted(settings.DEVICES_DIR.glob("*.sqlite3*")):
        moves.add(file, away / stores.FOLDER / file.name)
    for file in sorted((folder / stores.FOLDER).glob("*")):
        moves.add(file, settings.DEVICES_DIR / file.name)
    files.plan(moves, folder)
    if "SECRET_KEY" not in os.environ:
        if (settings.VAR_DIR / SECRET_KEY).exists():
            moves.add(settings.VAR_DIR / SECRET_KEY, away / SECRET_KEY)
        moves.add(folder / SECRET_KEY, settings.VAR_DIR / SECRET_KEY)
    place.plan(moves, stamp)
    moves.make()
    try:
        place.commit()
    except BaseException:
        moves.take_back()
        raise
    moves.done()
    return str(away) if away.exists() else ""
