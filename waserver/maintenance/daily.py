"""Daily: how things stand, the backup, what happened, and which errors were logged."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count

from messaging.models import Message
from monitoring.models import Incident
from monitoring.readiness import readiness
from sessions_app import jobs
from sessions_app.models import Host, Session, SessionEvent
from sessions_app.states import State
from sessions_app.whatsapp.client import Kind
from waserver import log_reading
from waserver.backup.target import Target
from waserver.maintenance.outcome import Outcome

_DAY = timedelta(hours=24)
#: A daily backup may be late by so much.
_BACKUP_AGE = timedelta(hours=26)
#: Below this share of the disk it is time to make room.
_FREE = 0.1
_SHOWN = 10


def status(now: datetime, dry_run: bool) -> Outcome:
    """Sessions by state, hosts, what is not ready, late jobs, the disk."""
    states = Counter(dict(Session.objects.values_list("state").annotate(n=Count("pk")).order_by("state")))
    hosts = list(Host.objects.live(now))
    lines = [
        "Sessions: " + (", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none"),
        "Hosts: " + (", ".join(f"{host.name} ({host.sessions} of {host.capacity})" for host in hosts) or "none"),
    ]
    troubles = [f"{name}: {check.detail}." for name, check in readiness(now).items() if not check.ok]
    if late := jobs.late(now):
        troubles.append(f"Late jobs: {', '.join(late)}. Is the cluster running? `manage.py server status` shows it.")
    people = Session.objects.exclude(hold="").count() + states[State.LOGGED_OUT]
    if people:
        troubles.append(f"{people} accounts wait for a person: `manage.py sessions list` says what to do for each.")
    disk = shutil.disk_usage(settings.VAR_DIR)
    lines.append(f"Disk of {settings.VAR_DIR}: {disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.1f}")
    if disk.free < _FREE * disk.total:
        troubles.append("Less than a tenth of the disk is free: make room before the database stops.")
    return Outcome(lines, troubles, {"sessions": sum(states.values()), "hosts": len(hosts)})


def backup(now: datetime, dry_run: bool) -> Outcome:
    """Return whether there is a backup of the last day. It is made by a job of its own."""
    target = Target()
    archives = target.list()
    if not archives:
        return Outcome(troubles=[f"There is no backup at {target.url}: `manage.py backup create` makes one."])
    newest = archives[0]
    line = f"{len(archives)} at {target.url}; the newest is {newest.name}, {newest.size / 1e6:.1f} MB"
    if now - newest.created_at > _BACKUP_AGE:
        days = (now - newest.created_at).days
        return Outcome([line], [f"The newest backup is {days} days old: see the job “backup” in the admin, and run "
                                "`manage.py backup create`."])  # fmt: skip
    return Outcome([line], counts={"backups": len(archives)})


def report(now: datetime, dry_run: bool) -> Outcome:
    """Messages, connections lost and incidents of the last 24 hours."""
    since = now - _DAY
    messages = dict(Message.objects.filter(changed_at__gte=since).values_list("state").annotate(n=Count("pk"))
                    .order_by("state"))  # fmt: skip
    drops = SessionEvent.objects.filter(at__gte=since, before=State.CONNECTED).exclude(
        after__in=[State.CONNECTED, State.STOPPED]).count()  # fmt: skip
    back = SessionEvent.objects.filter(at__gte=since, kind=Kind.CONNECTED).count()
    opened = Incident.objects.filter(opened_at__gte=since).count()
    unresolved = list(Incident.objects.unresolved().order_by("-opened_at"))
    lines = [
        "Messages: " + (", ".join(f"{n} {state}" for state, n in messages.items()) or "none"),
        f"Connections: {drops} lost, {back} made", f"Incidents: {opened} opened, {len(unresolved)} not resolved",
    ]  # fmt: skip
    troubles = [f"Incident since {one.opened_at:%Y-%m-%d %H:%M}: {one.title}" for one in unresolved[:_SHOWN]]
    return Outcome(lines, troubles, {"drops": drops, "incidents": len(unresolved)})


def errors(now: datetime, dry_run: bool) -> Outcome:
    """The causes of logged errors, most frequent first."""
    causes = log_reading.grouped(log_reading.read(settings.LOG_DIR, now - _DAY))
    lines = [f"{one.count:>6} × {one.cause} ({', '.join(sorted(one.program))}; last {one.last.at:%H:%M:%S})"
             for one in causes[:_SHOWN] if one.last]  # fmt: skip
    return Outcome(lines or ["None."], counts={"causes": len(causes), "errors": sum(one.count for one in causes)})
