"""`manage.py server health`: what is wrong here now, check by check. A check that fails itself is not good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _

from monitoring import readiness
from monitoring.models import Incident, Severity
from sessions_app.models import Session
from waserver import tree

#: Free disk space, in bytes, below which it is degraded, and not working.
LITTLE, TOO_LITTLE = 1_000_000_000, 100_000_000
#: Crashes of one program within a day that are worth a look.
MANY_CRASHES = 5
_SQLITE = b"SQLite format 3\x00"


class Level(IntEnum):
    """How bad: also the exit code."""

    GOOD = 0
    DEGRADED = 1
    BROKEN = 2


@dataclass(frozen=True)
class Found:
    """What one check found."""

    name: str
    level: Level
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {"name": self.name, "level": self.level.name.lower(), "sentence": self.sentence}


#: What a check returns.
Answer = tuple[Level, str]


def check(now: datetime) -> list[Found]:
    """Return the answers of all checks, in the order of CHECKS."""
    found = []
    for name, ask in CHECKS.items():
        try:
            level, sentence = ask(now)
        except CommandError as error:
            level, sentence = Level.BROKEN, str(error)
        except (Error, OSError) as error:
            level, sentence = Level.BROKEN, _("the check failed: %(error)s") % {"error": " ".join(str(error).split())}
        found.append(Found(name, level, sentence))
    return found


def _migrations(now: datetime) -> Answer:
    executor = MigrationExecutor(connection)
    open_ones = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not open_ones:
        return Level.GOOD, _("all applied")
    first = f"{open_ones[0][0].app_label}.{open_ones[0][0].name}"
    text = _("%(count)d not applied, from %(first)s: run `manage.py server restart`")
    return Level.BROKEN, text % {"count": len(open_ones), "first": first}


def _programs(now: datetime) -> Answer:
    infos, records = tree.require_running(), tree.records()
    if down := [info.name for info in infos if info.state not in ("running", "starting")]:
        text = _("%(programs)s not running: see `manage.py server status` and `server logs --errors`")
        return Level.BROKEN, text % {"programs": ", ".join(down)}
    day_ago = now.timestamp() - 86_400
    crashes = {name: sum(at > day_ago for at in record.crashes) for name, record in records.items()}
    often = [
        _("%(name)s (%(count)d times)") % {"name": name, "count": count}
        for name, count in crashes.items() if count >= MANY_CRASHES
    ]  # fmt: skip
    if often:
        text = _("crashed within a day: %(programs)s; see `manage.py server logs --errors`")
        return Level.DEGRADED, text % {"programs": ", ".join(often)}
    return Level.GOOD, _("%(count)d running") % {"count": len(infos)}


def _disk(now: datetime) -> Answer:
    free = min(shutil.disk_usage(folder).free for folder in (settings.VAR_DIR, settings.LOG_DIR))
    level = Level.BROKEN if free < TOO_LITTLE else Level.DEGRADED if free < LITTLE else Level.GOOD
    text = _("%(free).1f GB free in %(folder)s: make room") if level else _("%(free).1f GB free")
    return level, text % {"free": free / 1e9, "folder": settings.VAR_DIR}


def _device_stores(now: datetime) -> Answer:
    """Look at the first bytes only: whether the pages are whole is `manage.py recover --dry-run`'s to say."""
    rows = Session.objects.select_related("account").exclude(store="").exclude(store__startswith="postgres")
    bad = [f"{session} ({problem})" for session in rows if (problem := _problem(Path(session.store_path)))]
    if bad:
        text = _("keys that cannot be used: %(stores)s: see `manage.py recover --dry-run`")
        return Level.BROKEN, text % {"stores": "; ".join(bad)}
    return Level.GOOD, _("%(count)d readable") % {"count": len(rows)}


def _problem(store: Path) -> str:
    try:
        with store.open("rb") as file:
            return "" if file.read(len(_SQLITE)) == _SQLITE else _("damaged")
    except OSError as error:
        return error.strerror or _("unreadable")


def _incidents(now: datetime) -> Answer:
    critical = Incident.objects.unresolved().roots().filter(severity=Severity.CRITICAL)
    if titles := list(critical.values_list("title", flat=True)):
        text = _("%(count)d critical: %(titles)s")
        return Level.DEGRADED, text % {"count": len(titles), "titles": "; ".join(titles[:3])}
    return Level.GOOD, _("none critical")


def _as_ready(name: str, otherwise: Level) -> Callable[[datetime], Answer]:
    """Return one of /readyz' checks in our terms."""

    def ask(now: datetime) -> Answer:
        found = readiness.CHECKS[name](now)
        return Level.GOOD if found.ok else otherwise, found.detail

    return ask


#: In the order they are printed.
CHECKS: dict[str, Callable[[datetime], Answer]] = {
    "database": _as_ready("database", Level.BROKEN),
    "migrations": _migrations,
    "programs": _programs,
    "live_back": _as_ready("live_back", Level.DEGRADED),
    "hosts": _as_ready("hosts", Level.BROKEN),
    "disk": _disk,
    "device stores": _device_stores,
    "incidents": _incidents,
}
