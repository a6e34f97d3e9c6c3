"""The device stores: copied while hosts use them, which SQLite's on-line backup allows from another process.

Those in PostgreSQL: see schemas.py.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from sessions_app.models import Session
from sessions_app.whatsapp import device_store
from waserver.backup import schemas
from waserver.backup.database import copy_sqlite
from waserver.backup.errors import BackupError

FOLDER = "devices"
_PARTS = ("", "-wal", "-shm")


@dataclass
class Copied:
    """What was copied: the members, which of them could not be read, and what sessions name that was not there."""

    stores: dict[str, str] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    elsewhere: int = 0  # in PostgreSQL, and not copied:
    because: str = ""


def snapshot(folder: Path) -> Copied:
    """Copy every device store into the folder. A store that cannot be read is copied byte by byte, and named."""
    (folder / FOLDER).mkdir(mode=0o700)
    copied = Copied()
    files = sorted(settings.DEVICES_DIR.glob("*.sqlite3"))
    for file in files:
        member = f"{FOLDER}/{file.name}"
        try:
            copy_sqlite(file, folder / member)
            copied.members.append(member)
        except BackupError:
            if not file.exists():  # a pairing was given up meanwhile
                (folder / member).unlink(missing_ok=True)
                continue
            copied.members += _copy_raw(file, folder, member)
            copied.damaged.append(member)
        copied.stores[file.name] = member
    named = Session.objects.exclude(store="").values_list("store", flat=True)
    in_files = [name for name in named if device_store.is_file(name)]
    copied.missing = sorted(name for name in in_files if name not in copied.stores)
    _dump_schemas(folder, sorted(set(named) - set(in_files)), copied)
    return copied


def _dump_schemas(folder: Path, named: list[str], copied: Copied) -> None:
    """Dump what is in PostgreSQL; a backup without these is better than none, and it is said."""
    if not named:
        return
    try:
        there = schemas.there()
        copied.missing += [name for name in named if name not in there]
        if found := [name for name in named if name in there]:
            schemas.dump(folder / schemas.MEMBER, found)
            copied.members.append(schemas.MEMBER)
            copied.stores |= dict.fromkeys(found, schemas.MEMBER)
    except BackupError as error:
        (folder / schemas.MEMBER).unlink(missing_ok=True)
        copied.elsewhere, copied.because = len(named), str(error)


def _copy_raw(file: Path, folder: Path, member: str) -> list[str]:
    copied = []
    for part in _PARTS:
        source = Path(f"{file}{part}")
        if source.exists():
            shutil.copyfile(source, folder / f"{member}{part}")
            copied.append(f"{member}{part}")
    return copied
