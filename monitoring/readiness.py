"""Can this installation do its work now? One check per thing it needs; nothing is ready by default."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection
from django.utils.translation import gettext as _
from django_q.models import Schedule

from sessions_app.jobs import JOBS
from sessions_app.models import Host, Job

#: Seconds the channel layer has to hand a message back.
LAYER_PATIENCE = 2.0


@dataclass(frozen=True)
class Check:
    """One answer: good or not, and a sentence without secrets (addresses of databases and the like stay out)."""

    ok: bool
    detail: str


def _database(now: datetime) -> Check:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return Check(True, _("answers"))


def _channel_layer(now: datetime) -> Check:
    async def there_and_back() -> Any:
        layer = get_channel_layer()
        channel = await layer.new_channel("ready")
        await layer.send(channel, {"type": "ready"})
        async with asyncio.timeout(LAYER_PATIENCE):
            return await layer.receive(channel)

    message = async_to_sync(there_and_back)()
    return Check(message["type"] == "ready", _("hands messages on"))


def _live_back(now: datetime) -> Check:
    job = Job.objects.filter(name="live_back").first()
    if job is None or job.last_run_at is None:
        return Check(False, _("has never run: is the cluster (manage.py qcluster) running?"))
    age = {"seconds": (now - job.last_run_at).total_seconds()}
    if Schedule.objects.filter(name="live_back", repeats=0).exists():
        return Check(False, _("last ran %(seconds).0f s ago; paused by staff: resume it in the admin under Jobs") % age)
    if job.is_late(now, JOBS["live_back"].patience):
        return Check(False, _("last ran %(seconds).0f s ago: is the cluster (manage.py qcluster) running?") % age)
    if job.error:
        return Check(False, _("last ran %(seconds).0f s ago, and failed: its error is in the admin under Jobs") % age)
    return Check(True, _("last ran %(seconds).0f s ago") % age)


def _hosts(now: datetime) -> Check:
    live = Host.objects.live(now).count()
    return Check(live > 0, _("%(count)d running") % {"count": live} if live else _("no session host is running"))


#: Name -> what answers. The order is the order of the answer.
CHECKS: dict[str, Callable[[datetime], Check]] = {
    "database": _database,
    "channel_layer": _channel_layer,
    "live_back": _live_back,
    "hosts": _hosts,
}


def readiness(now: datetime, without: frozenset[str] = frozenset()) -> dict[str, Check]:
    """Return every check but those in `without`. A check that raises is not ok; it says the kind of error only."""
    found: dict[str, Check] = {}
    for name, check in CHECKS.items():
        if name in without:
            continue
        try:
            found[name] = check(now)
        except Exception as error:  # noqa: BLE001 - whatever fails is what the asker wants to know
            found[name] = Check(False, _("does not answer (%(error)s)") % {"error": type(error).__name__})
    return found
