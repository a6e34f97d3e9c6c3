"""VAR_DIR holds device keys, the secret key and the database: no other user of the machine may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def watched() -> list[Path]:
    """Return what has to be private, as far as it is there."""
    var: Path = settings.VAR_DIR
    files = [var / "secret_key", *var.glob("*.sqlite3*")]
    folders = [var, settings.DEVICES_DIR, settings.LOG_DIR, settings.RUN_DIR]
    return [path for path in (*folders, *files) if path.exists()]


def exposed() -> list[Path]:
    """Return what others may read or write."""
    # In a folder that others cannot enter, the modes of what lies inside do not matter.
    if not settings.VAR_DIR.stat().st_mode & _OTHERS:
        return []
    return [path for path in watched() if path.stat().st_mode & _OTHERS]


def make_private() -> list[Path]:
    """Take away what others may do with it; return what is still exposed. A shared folder like /tmp is left alone."""
    left = []
    for path in exposed():
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
            left.append(path)
            continue
        path.chmod(status.st_mode & 0o700)
    return left if settings.VAR_DIR.stat().st_mode & _OTHERS else []


@register(Tags.security, deploy=True)
def check(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """`manage.py check --deploy` names what is exposed."""
    return [
        Warning(f"{path} can be read or written by other users.", hint=f"chmod go= {path}", id="waserver.W001")
        for path in exposed()
    ]
