"""Making a backup, and proving it by reading it back."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Account
from waserver.backup import archive, database, files, key, stores
from waserver.backup.archive import Manifest
from waserver.backup.errors import BackupError
from waserver.backup.lock import workplace
from waserver.backup.target import Target, archive_name

SECRET_KEY = "secret_key"  # noqa: S105 - the name of a member


@dataclass(frozen=True)
class Made:
    """A backup that was written and read back."""

    name: str
    url: str
    size: int
    manifest: Manifest
    took: float  # seconds
    pruned: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return the figures a job records."""
        found = self.manifest
        return {**found.counts, "damaged": len(found.damaged), "missing": len(found.missing), "bytes": self.size,
                "pruned": self.pruned}  # fmt: skip


def create(reason: str = "", keep: int | None = None) -> Made:
    """Back everything up to BACKUP_URL, read it back, delete all but the newest `keep`. Raises BackupError.

    May run beside the server, but not in a process that runs WhatsApp clients.
    """
    began, now = time.monotonic(), timezone.now()
    identity, loud = key.load_or_make()
    target, name = Target(), archive_name(now, reason)
    warnings = [loud] if loud else []
    try:
        with workplace() as folder:
            manifest, copied = gather(folder, now, reason)
            text = _("%(name)s cannot be read; it was copied as it is.")
            warnings += [text % {"name": one} for one in manifest.damaged]
            text = _("A session names the device store %(name)s, which is not there.")
            warnings += [text % {"name": one} for one in manifest.missing]
            if elsewhere := manifest.counts["stores_elsewhere"]:
                text = _("The keys of %(count)d accounts are in PostgreSQL and NOT in this backup: %(error)s")
                warnings.append(text % {"count": elsewhere, "error": copied.because})
            file = folder / name
            with file.open("xb") as out:
                archive.write(out, manifest, folder, identity)
            size = file.stat().st_size
            target.put(file, name)
            with target.open(name) as source:
                archive.read(source, identity)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(_("The backup could not be made: %(error)s") % {"error": told(error)}) from None
    pruned = target.prune(settings.BACKUP_KEEP if keep is None else keep)
    return Made(name, target.url, size, manifest, time.monotonic() - began, pruned, warnings)


def gather(folder: Path, now: datetime, reason: str) -> tuple[Manifest, stores.Copied]:
    """Copy everything a backup holds into the folder; return its manifest, and how it went with the device stores."""
    _room_for(sum(_size(file) for file in _sources()))
    # The database first: a device store that a row names is not deleted so soon, but a row may come to name a new one.
    names = [database.snapshot(folder)]
    copied = stores.snapshot(folder)
    (folder / SECRET_KEY).write_text(settings.SECRET_KEY)
    media = files.snapshot(folder)
    names += [*copied.members, *media, SECRET_KEY]
    manifest = Manifest(
        kind="backup", created_at=now.isoformat(), machine=platform.node(), reason=reason, engine=database.engine(),
        migrations=applied_migrations(),
        counts={"accounts": Account.objects.count(), "stores": len(copied.stores),
                "stores_elsewhere": copied.elsewhere, "media": len(media)},
        stores=copied.stores, damaged=copied.damaged, missing=copied.missing,
        members=[archive.member(name, folder / name) for name in names],
    )  # fmt: skip
    return manifest, copied


def applied_migrations() -> list[str]:
    """Return the migrations of the database, as "app.name"."""
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())


def told(error: Exception) -> str:
    """Return what a failing disk or database says, as the end of a sentence."""
    text = str(getattr(error, "strerror", None) or error).rstrip(".")
    file = getattr(error, "filename", None)
    return f"{text} ({file})." if file else f"{text}."


def _sources() -> list[Path]:
    found = [*settings.DEVICES_DIR.glob("*.sqlite3*")]
    if database.engine() == database.SQLITE:
        found.append(Path(connection.settings_dict["NAME"]))
    if settings.BACKUP_MEDIA:
        found += files.there()
    return found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # given up, or too old, meanwhile
        return 0


def _room_for(size: int) -> None:
    """Raise BackupError when the copies and the archive will not fit."""
    free = shutil.disk_usage(settings.VAR_DIR).free
    if free < 2 * size:
        text = _("A backup needs about %(needed).0f MB of room in %(folder)s, and %(free).0f MB are free: make room, "
                 "then try again.")  # fmt: skip
        raise BackupError(text % {"needed": 2 * size / 1e6, "folder": settings.VAR_DIR, "free": free / 1e6})
