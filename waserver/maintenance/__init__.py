"""Routine maintenance: what is done daily, weekly and monthly, as tables. By hand: `manage.py maintenance WHAT`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from waserver.maintenance.outcome import Outcome

__all__ = ["ROUTINES", "Outcome", "Task", "run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One thing to do; `work` is the dotted path of `f(now, dry_run) -> Outcome`. A dry run changes nothing."""

    name: str
    title: Promise
    work: str


ROUTINES: dict[str, tuple[Task, ...]] = {
    "daily": (
        Task("status", lazy("Status"), "waserver.maintenance.daily.status"),
        Task("backup", lazy("Backup"), "waserver.maintenance.daily.backup"),
        Task("report", lazy("Report of the last 24 hours"), "waserver.maintenance.daily.report"),
        Task("errors", lazy("Errors of the last 24 hours"), "waserver.maintenance.daily.errors"),
    ),
    "weekly": (
        Task("restart", lazy("Preventive restart of the hosts"), "waserver.maintenance.weekly.restart"),
        Task("stores", lazy("Device stores in quarantine for 7 days"), "waserver.maintenance.weekly.stores"),
        Task("restored", lazy("What restores replaced 7 days ago"), "waserver.maintenance.weekly.restored"),
        Task("logs", lazy("Logs older than LOG_RETENTION_DAYS"), "waserver.maintenance.weekly.logs"),
    ),
    "monthly": (
        Task("performance", lazy("Performance of the last 30 days"), "waserver.maintenance.monthly.performance"),
        Task("capacity", lazy("Capacity"), "waserver.maintenance.monthly.capacity"),
        Task("slow_queries", lazy("Slow queries of the last 30 days"), "waserver.maintenance.slow_queries.review"),
        Task("dependencies", lazy("Dependencies and security"), "waserver.maintenance.dependencies.check"),
    ),
}


def run(routine: str, now: datetime, dry_run: bool = False, without: frozenset[str] = frozenset(),
        ) -> Iterator[tuple[Task, Outcome]]:  # fmt: skip
    """Do the tasks of a routine one after the other; one that fails is told and does not hold up the others."""
    for task in ROUTINES[routine]:
        if task.name in without:
            continue
        try:
            yield task, import_string(task.work)(now, dry_run)
        except Exception as error:  # noqa: BLE001 - the edge of a task
            _log.warning("Maintenance: %s failed", task.name, exc_info=True)
            yield task, Outcome(troubles=[_("This could not be done: %(error)s") % {"error": error}])
