"""The lines under some cards: sessions by state, each host, the jobs, what waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django_q.models import OrmQ

from monitoring.measuring.backlog import waiting
from monitoring.measuring.moment import Moment
from sessions_app import jobs
from sessions_app.explanations import AMBER, BLUE, GREEN, GREY, LABELS, RED
from sessions_app.models import Host, Session
from sessions_app.states import State


@dataclass(frozen=True)
class Detail:
    """One line: a badge and what it is about."""

    word: Any
    colour: str
    text: str
    url: str = ""


#: So many hosts have a line of their own.
_MOST = 12


def session_states(now: datetime) -> list[Detail]:
    """Return how many sessions are in each state, each a link to their list."""
    counts = dict(Session.objects.values_list("state").annotate(n=Count("pk")).order_by())
    where = reverse("admin:accounts_account_changelist")
    return [
        Detail(LABELS[state][0], LABELS[state][1], str(counts[state]), f"{where}?session__state__exact={state}")
        for state in State if state in counts
    ]  # fmt: skip


def hosts(now: datetime) -> list[Detail]:
    """Return each host: whether it runs, its sessions and its memory."""
    rows = list(Host.objects.order_by("ended_at", "name")[: _MOST + 1])
    lines = [Detail(*_host(row, now)) for row in rows[:_MOST]]
    if len(rows) > _MOST:
        lines.append(Detail(_("more"), GREY, _("see the list of hosts"), reverse("admin:sessions_app_host_changelist")))
    return lines


def _host(row: Host, now: datetime) -> tuple[Any, str, str]:
    text = _("%(name)s: %(sessions)d of %(capacity)d sessions, %(mb)d MB") % {
        "name": row.name, "sessions": row.sessions, "capacity": row.capacity, "mb": row.rss / 1e6}  # fmt: skip
    if row.ended_at is not None:
        return lazy("stopped"), GREY, row.name
    if not row.is_live(now):
        return lazy("silent"), RED, text
    if row.restart_requested_at is not None:
        return lazy("restarting"), AMBER, text
    return (lazy("draining"), BLUE, text) if row.draining else (lazy("running"), GREEN, text)


def cluster(now: datetime) -> list[Detail]:
    """Return which jobs are late, and how many tasks wait."""
    late = jobs.late(now)
    lines = [Detail(lazy("late"), RED, name, reverse("admin:sessions_app_job_changelist")) for name in late]
    if not late:
        lines.append(Detail(lazy("on time"), GREEN, _("all %(count)d regular jobs") % {"count": len(jobs.JOBS)}))
    return [*lines, Detail(lazy("waiting"), GREY, _("%(count)d tasks") % {"count": OrmQ.objects.count()})]


def backlog(now: datetime) -> list[Detail]:
    """Return what waits by kind."""
    counts = waiting(Moment(now))
    return [
        Detail(lazy("to send"), GREY, _("%(count)d messages") % {"count": counts["messages"]}),
        Detail(lazy("to deliver"), GREY, _("%(count)d webhook calls") % {"count": counts["deliveries"]}),
    ]


#: Metric -> the lines under its card.
DETAILS: Mapping[str, Callable[[datetime], list[Detail]]] = {
    "sessions_offline": session_states,
    "hosts_silent": hosts,
    "live_back_age": cluster,
    "backlog": backlog,
}
