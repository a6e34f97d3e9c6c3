"""The daily backup: a job of the cluster, done by a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import datetime

from django.conf import settings
from django.utils.translation import gettext as _

from waserver.backup.errors import BackupError

_log = logging.getLogger(__name__)
#: Seconds it may take: below the cluster's own limit of 300.
PATIENCE = 280


def backup(now: datetime) -> dict[str, int]:
    """Run `manage.py backup create`; return its figures. Raises BackupError with its sentence."""
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "backup", "create", "--reason", "daily", "--json"], cwd=settings.BASE_DIR,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        text = _("The daily backup took longer than %(seconds)d s: pause this job, and run `manage.py backup create` "
                 "from cron or a systemd timer.")  # fmt: skip
        raise BackupError(text % {"seconds": PATIENCE}) from None
    for line in done.stderr.strip().splitlines():
        _log.warning("backup: %s", line)
    if done.returncode:
        raise BackupError(done.stderr.strip().removeprefix("CommandError: ") or _("The backup failed without a word."))
    answer = json.loads(done.stdout)
    return {name: value for name, value in answer.items() if isinstance(value, int)}
