"""Processes of their own for work that is heavy or slow: they do it and end, and this one stays small and quick."""

from __future__ import annotations

import subprocess
import sys

from django.conf import settings

_running: dict[str, subprocess.Popen[bytes]] = {}


def spawn(command: str) -> bool:
    """Start `manage.py COMMAND` and do not wait for it; False while the one started last still runs."""
    last = _running.get(command)
    if last is not None and last.poll() is None:
        return False
    _running[command] = subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), command], cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return True
