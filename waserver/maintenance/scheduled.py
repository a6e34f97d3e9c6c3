"""The routines as jobs of the cluster: what they say goes into the log, their troubles as warnings."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import datetime

from django.conf import settings

_log = logging.getLogger(__name__)
#: Seconds a routine may take: below the cluster's own limit of 300.
PATIENCE = 280


def daily(now: datetime) -> dict[str, int]:
    """Run the daily routine; return its figures."""
    return _run("daily")


def weekly(now: datetime) -> dict[str, int]:
    """Run the weekly routine but for the restart, which has a window and a job of its own."""
    return _run("weekly", "--without", "restart")


def monthly(now: datetime) -> dict[str, int]:
    """Run the monthly routine."""
    return _run("monthly")


def _run(routine: str, *options: str) -> dict[str, int]:
    """Run it in a process of its own: the cluster's stays small, and is not held up by what hangs."""
    done = subprocess.run(
        [sys.executable, "manage.py", "maintenance", routine, "--json", *options], cwd=settings.BASE_DIR,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        raise RuntimeError(f"maintenance {routine} failed: {done.stderr.strip()[-500:]}")
    counts = {"troubles": 0}
    for name, outcome in json.loads(done.stdout).items():
        lines, troubles = outcome.pop("lines"), outcome.pop("troubles")
        for line in lines:
            _log.info("%s: %s: %s", routine, name, line)
        for trouble in troubles:
            _log.warning("%s: %s: %s", routine, name, trouble)
        counts["troubles"] += len(troubles)
        counts.update(outcome)
    return counts
