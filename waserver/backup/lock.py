"""One backup, restore, export or import at a time on this installation."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from waserver.backup.errors import BackupError
from waserver.backup.moves import take_back_unfinished

_PREFIX = "backup-staging-"


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give an empty folder in VAR_DIR, gone afterwards. Raises BackupError while another holds one.

    In VAR_DIR, since what is inside is as secret as what lies there, and renames from it into place are atomic.
    """
    with (settings.RUN_DIR / "backup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(_("Another backup or restore is under way here: wait until it has ended.")) from None
        take_back_unfinished()
        for left in settings.VAR_DIR.glob(f"{_PREFIX}*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=settings.VAR_DIR) as folder:
            yield Path(folder)
