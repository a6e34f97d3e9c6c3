"""The jobs of the cluster, as data: each app plans its own, they are registered on migrate, each run is recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as lazy
from django_q.models import Schedule

from sessions_app.models import Job


@dataclass(frozen=True)
class Planned:
    """One job: what it does, how often, and after how long without a run something is wrong.

    `work` is the dotted path of a function that takes the time and returns counts, so that only the cluster loads it.
    """

    name: str
    work: str
    cron: str  # six fields: the last is the second
    patience: timedelta
    purpose: Any  # translated where it is shown


JOBS: dict[str, Planned] = {}


def plan(*jobs: Planned) -> None:
    """Add jobs; called by each app's `ready`."""
    JOBS.update({job.name: job for job in jobs})


plan(
    Planned("live_back", "sessions_app.live_back.live_back", "* * * * * */30", timedelta(seconds=90),
            lazy("marks sessions due that should be connected and are not")),
    Planned("cleanup", "sessions_app.cleanup.cleanup", "*/10 * * * *", timedelta(minutes=25),
            lazy("ends what is stuck, forgets what is old, quarantines unused device stores")),
)  # fmt: skip


def run(name: str) -> dict[str, int]:
    """Run a job now and record how it went; called by the cluster."""
    work = import_string(JOBS[name].work)
    began, now = time.monotonic(), timezone.now()
    counts: dict[str, int] = {}
    error = ""
    try:
        counts = work(now)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        took = timedelta(seconds=time.monotonic() - began)
        Job.objects.update_or_create(
            name=name, defaults={"last_run_at": now, "duration": took, "counts": counts, "error": error}
        )
    return counts


def register(**kwargs: Any) -> None:
    """Bring the schedule in line with JOBS; one that staff paused stays paused."""
    for job in JOBS.values():
        Job.objects.get_or_create(name=job.name)
        Schedule.objects.update_or_create(
            name=job.name,
            defaults={
                "func": "sessions_app.jobs.run", "args": repr((job.name,)), "schedule_type": Schedule.CRON,
                "cron": job.cron,
            },
            create_defaults={
                "func": "sessions_app.jobs.run", "args": repr((job.name,)), "schedule_type": Schedule.CRON,
                "cron": job.cron, "repeats": -1, "next_run": timezone.now(),
            },
        )  # fmt: skip


def pause(name: str, paused: bool) -> None:
    """Stop or continue a job: django-q2 leaves out a schedule with no repeats left."""
    Schedule.objects.filter(name=name).update(repeats=0 if paused else -1, next_run=timezone.now())


def paused() -> set[str]:
    """Return the names of the jobs that staff paused."""
    return set(Schedule.objects.filter(repeats=0).values_list("name", flat=True))


def late(now: datetime) -> list[str]:
    """Return the names of jobs that should have run by now and did not."""
    rows, resting = Job.objects.in_bulk(), paused()
    due = dict(Schedule.objects.filter(name__in=JOBS).values_list("name", "next_run"))

    def is_late(job: Planned) -> bool:
        row = rows.get(job.name)
        if row is None or row.last_run_at is None:  # never yet: its time may not have come, as on the first day
            return job.name not in due or now - due[job.name] > job.patience
        return row.is_late(now, job.patience)

    return [job.name for job in JOBS.values() if job.name not in resting and is_late(job)]
