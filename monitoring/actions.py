"""What is done by itself about an incident, as a table: what, from which severity on, and how often at most.

Every action is written into the incident's timeline, with what it found or did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring import diagnosis
from monitoring.measuring import memory
from monitoring.metrics import Action
from monitoring.models import EntryKind, Incident, IncidentEntry, Severity, Threshold
from monitoring.wording import Words, filled
from sessions_app.models import Host

_log = logging.getLogger(__name__)

#: Who asks, in events and on the host's row.
ACTOR = "health"


@dataclass(frozen=True)
class Done:
    """What an action says of itself."""

    text: Words
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How an action is done, from which severity on, and after how long again while the breach lasts (None: never)."""

    do: Callable[[Incident, datetime], Done]
    severity: Severity
    again: timedelta | None = None


def restart_largest_host(incident: Incident, now: datetime) -> Done:
    """Ask the live host with the most memory on this machine to end gracefully; its supervisor starts it again."""
    sizes = [{"process": p.pid, "name": p.name, "mb": round(p.rss / 1e6)} for p in memory.processes()]
    evidence: dict[str, Any] = {"processes": sizes, "limit_mb": round(memory.limit() / 1e6)}
    here = {size["process"] for size in sizes}
    hosts = [host for host in Host.objects.live(now).order_by("-rss") if host.pid in here]
    if not hosts:
        return Done(_("No session host runs on this machine: there is nothing to restart."), evidence)
    largest = hosts[0]
    evidence |= {"host": largest.name, "host_mb": round(largest.rss / 1e6)}
    found = {"host": largest.name, "mb": largest.rss / 1e6, "id": incident.pk}
    if not largest.request_restart(ACTOR, str(filled(_("memory is short: incident %(id)d"), found))):
        text = filled(_("%(host)s is the largest host; its restart was asked for already."), found)
    else:
        text = filled(_("Asked the largest host, %(host)s (%(mb)d MB), to restart gracefully."), found)
    return Done(text, evidence)


def investigate(incident: Incident, now: datetime) -> Done:
    """Attach who fails, with which codes, and what the logs say."""
    return Done(_("Looked for the causes."), diagnosis.failures(now))


def performance_check(incident: Incident, now: datetime) -> Done:
    """Attach the slowest routes and statements."""
    return Done(_("Looked for the slowest routes and queries."), diagnosis.slowness(now))


def notify(incident: Incident, now: datetime) -> Done:
    """Have it told at once, quiet hours or not. The alert itself follows the action."""
    incident.urgent = True
    incident.save(update_fields=["urgent"])
    return Done(_("Needs attention at once: told whatever the hour."), diagnosis.failures(now))


RULES: dict[Action, Rule] = {
    Action.RESTART_HOST: Rule(restart_largest_host, Severity.CRITICAL, again=timedelta(minutes=10)),
    Action.INVESTIGATE: Rule(investigate, Severity.WARNING),
    Action.PERFORMANCE_CHECK: Rule(performance_check, Severity.WARNING),
    Action.NOTIFY: Rule(notify, Severity.CRITICAL),
}


def act(incident: Incident, threshold: Threshold, now: datetime) -> bool:
    """Do what the threshold asks for, when the incident is bad enough and it was not done just before."""
    rule = RULES.get(Action(threshold.action))
    if rule is None or (rule.severity == Severity.CRITICAL and incident.severity != Severity.CRITICAL):
        return False
    if rule.again is not None and last_done(threshold.action, now - rule.again) is not None:
        return False
    try:
        done = rule.do(incident, now)
    except Exception as error:  # noqa: BLE001 - an action that fails must not keep the alert from being told
        _log.exception("The action %s failed", threshold.action)
        done = Done(filled(_("The action failed: %(error)s"), {"error": error}), {})
    incident.record(EntryKind.ACTION, now, text=done.text, evidence={"action": threshold.action, **done.evidence})
    return True


def act_again(incident: Incident, threshold: Threshold, now: datetime) -> bool:
    """Do it again while the breach lasts, for those actions that may be repeated."""
    rule = RULES.get(Action(threshold.action))
    if rule is None or rule.again is None or timezone.now() - incident.last_breach_at > timedelta(minutes=1):
        return False
    return act(incident, threshold, now)


def last_done(action: str, since: datetime) -> IncidentEntry | None:
    """Return when an action was last done since then, whatever for."""
    entries = IncidentEntry.objects.filter(kind=EntryKind.ACTION, at__gt=since, evidence__action=action)
    return entries.order_by("-id").first()
