"""Daily: how things stand, the backup, what happened, and which errors were logged."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count
from django.utils.translation import gettext as _

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
    text, counts = _("%(host)s (%(sessions)d of %(capacity)d)"), [f"{n} {state}" for state, n in sorted(states.items())]
    named = [text % {"host": host.name, "sessions": host.sessions, "capacity": host.capacity} for host in hosts]
    lines = [
        _("Sessions: %(counts)s") % {"counts": ", ".join(counts) or _("none")},
        _("Hosts: %(hosts)s") % {"hosts": ", ".join(named) or _("none")},
    ]
    troubles = [f"{name}: {check.detail}." for name, check in readiness(now).items() if not check.ok]
    if late := jobs.late(now):
        text = _("Late jobs: %(names)s. Is the cluster running? `manage.py server status` shows it.")
        troubles.append(text % {"names": ", ".join(late)})
    people = Session.objects.exclude(hold="").count() + states[State.LOGGED_OUT]
    if people:
        text = _("%(count)d accounts wait for a person: `manage.py sessions list` says what to do for each.")
        troubles.append(text % {"count": people})
    disk = shutil.disk_usage(settings.VAR_DIR)
    text = _("Disk of %(folder)s: %(free).1f GB free of %(total).1f")
    lines.append(text % {"folder": settings.VAR_DIR, "free": disk.free / 1e9, "total": disk.total / 1e9})
    if disk.free < _FREE * disk.total:
        troubles.append(_("Less than a tenth of the disk is free: make room before the database stops."))
    return Outcome(lines, troubles, {"sessions": sum(states.values()), "hosts": len(hosts)})


def backup(now: datetime, dry_run: bool) -> Outcome:
    """Return whether there is a backup of the last day. It is made by a job of its own."""
    target = Target()
    archives = target.list()
    if not archives:
        text = _("There is no backup at %(url)s: `manage.py backup create` makes one.")
        return Outcome(troubles=[text % {"url": target.url}])
    newest = archives[0]
    line = _("%(count)d at %(url)s; the newest is %(name)s, %(size).1f MB") % {
        "count": len(archives), "url": target.url, "name": newest.name, "size": newest.size / 1e6,
    }  # fmt: skip
    if now - newest.created_at > _BACKUP_AGE:
        text = _(
            "The newest backup is %(days)d days old: see the job “backup” in the admin, and run "
            "`manage.py backup create`."
        )
        return Outcome([line], [text % {"days": (now - newest.created_at).days}])
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
        _("Messages: %(counts)s") % {
            "counts": ", ".join(f"{n} {state}" for state, n in messages.items()) or _("none"),
        },
        _("Connections: %(lost)d lost, %(made)d made") % {"lost": drops, "made": back},
        _("Incidents: %(opened)d opened, %(open)d not resolved") % {"opened": opened, "open": len(unresolved)},
    ]  # fmt: skip
    text = _("Incident since %(moment)s: %(title)s")
    troubles = [
        text % {"moment": f"{one.opened_at:%Y-%m-%d %H:%M}", "title": one.shown_title} for one in unresolved[:_SHOWN]
    ]
    return Outcome(lines, troubles, {"drops": drops, "incidents": len(unresolved)})


def errors(now: datetime, dry_run: bool) -> Outcome:
    """The causes of logged errors, most frequent first."""
    causes = log_reading.grouped(log_reading.read(settings.LOG_DIR, now - _DAY))
    text = _("%(count)6d × %(cause)s (%(programs)s; last %(at)s)")
    lines = [
        text % {"count": one.count, "cause": one.cause, "programs": ", ".join(sorted(one.program)),
                "at": f"{one.last.at:%H:%M:%S}"}
        for one in causes[:_SHOWN] if one.last
    ]  # fmt: skip
    return Outcome(lines or [_("None.")], counts={"causes": len(causes), "errors": sum(one.count for one in causes)})
