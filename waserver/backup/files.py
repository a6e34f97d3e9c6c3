"""Files of messages: part of a backup with BACKUP_MEDIA, since they may be many times larger than all else.

Each lies under a name that is its content's digest: none ever changes, and one that is there already is the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from waserver.backup.moves import Moves, near

FOLDER = "media"
_NAME = re.compile(r"[0-9a-f]{64}")


def there() -> Iterator[Path]:
    """Yield every file of a message."""
    for file in sorted(Path(settings.MEDIA_DIR).glob("*/*")):
        if _NAME.fullmatch(file.name):  # not one that is being written
            yield file


def snapshot(folder: Path) -> list[str]:
    """Have every file in the folder as well, if backups are to hold them; return the names of these members."""
    members: list[str] = []
    for file in there() if settings.BACKUP_MEDIA else ():
        member = f"{FOLDER}/{file.parent.name}/{file.name}"
        (folder / member).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # its message was deleted meanwhile
            _link(file, folder / member)
            members.append(member)
    return members


def plan(moves: Moves, folder: Path) -> None:
    """Add the renames that put back what is not there."""
    for file in sorted((folder / FOLDER).glob("*/*")):
        target = Path(settings.MEDIA_DIR) / file.parent.name / file.name
        if not target.exists():
            moves.add(near(file, target), target)


def _link(file: Path, copy: Path) -> None:
    """Link it, or copy it where the media lie on a file system of their own."""
    try:
        os.link(file, copy)
    except OSError:  # one that is gone fails again below
        shutil.copyfile(file, copy)
