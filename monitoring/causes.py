"""Incidents without a number: a session that needs a person, a host that went silent, a job that is late.

Each run looks at the rows and says what is the case now (facts); incidents follow the facts. One table: what a cause is
called, how bad it is, and its title. A fact may name another that explains it; its incident is then folded into that
one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext_lazy as lazy

from accounts.models import Account, Desired
from messaging.models import WebhookEndpoint
from monitoring import alerting
from monitoring.metrics import Kind
from monitoring.models import AlertChannel, AlertDelivery, EntryKind, Incident, Program, Severity
from monitoring.wording import Words, filled
from sessions_app import jobs, retry
from sessions_app.fleet import FAILED
from sessions_app.models import FleetCause, Host, HostEvent, Job, Session
from sessions_app.states import NEEDS_PAIRING, State

#: A fact that was not seen for so long is over: three looks, 30 s apart.
CLEAR_AFTER = timedelta(seconds=75)
#: A session that should be online and is not, without another cause, is left so long to heal by itself.
OFFLINE_AFTER = timedelta(minutes=5)
#: A host that started so often in so short a time without having been stopped keeps crashing.
CRASHES, CRASH_SPAN = 3, timedelta(minutes=10)


@dataclass(frozen=True)
class Cause:
    """One kind of fact."""

    label: Any
    kind: Kind
    severity: Severity
    title: Any


CAUSES: dict[str, Cause] = {
    "logged_out": Cause(lazy("Logged out"), Kind.ACCOUNT, Severity.CRITICAL,
                        lazy("%(subject)s is logged out: pair the phone again")),
    "banned": Cause(lazy("Banned"), Kind.ACCOUNT, Severity.CRITICAL,
                    lazy("%(subject)s is banned by WhatsApp for a time")),
    "outdated": Cause(lazy("Client outdated"), Kind.CODE, Severity.CRITICAL,
                      lazy("WhatsApp no longer accepts this version of the client library: update waserver")),
    "conflict": Cause(lazy("Conflicts"), Kind.ACCOUNT, Severity.CRITICAL,
                      lazy("%(subject)s is stopped: another client uses the same keys")),
    "store_missing": Cause(lazy("Keys missing"), Kind.ACCOUNT, Severity.CRITICAL,
                           lazy("%(subject)s is stopped: the file with its keys is missing")),
    "store_damaged": Cause(lazy("Keys damaged"), Kind.ACCOUNT, Severity.CRITICAL,
                           lazy("%(subject)s is stopped: the file with its keys is damaged")),
    "wrong_number": Cause(lazy("Wrong number"), Kind.ACCOUNT, Severity.CRITICAL,
                          lazy("%(subject)s is stopped: the keys belong to another number")),
    "on_hold": Cause(lazy("Waits for a person"), Kind.ACCOUNT, Severity.CRITICAL,
                     lazy("%(subject)s is stopped and waits for a person")),
    "breaker_open": Cause(lazy("Keeps failing"), Kind.ACCOUNT, Severity.WARNING,
                          lazy("%(subject)s failed five times in five minutes and pauses")),
    "offline": Cause(lazy("Not connected"), Kind.ACCOUNT, Severity.WARNING,
                     lazy("%(subject)s should be online and is not connected")),
    "fleet": Cause(lazy("Common cause"), Kind.CODE, Severity.CRITICAL,
                   lazy("Many sessions fail for one cause (%(subject)s): new starts are held back to one trial")),
    "host_down": Cause(lazy("Host down"), Kind.HOST, Severity.CRITICAL,
                       lazy("The session host %(subject)s went silent")),
    "host_crashing": Cause(lazy("Host keeps crashing"), Kind.HOST, Severity.CRITICAL,
                           lazy("The session host %(subject)s keeps crashing")),
    "crash_loop": Cause(lazy("Crash loop"), Kind.PROGRAM, Severity.CRITICAL,
                        lazy("The program %(subject)s keeps crashing and rests")),
    "job_late": Cause(lazy("Job late"), Kind.JOB, Severity.WARNING,
                      lazy("The regular job %(subject)s did not run in time")),
    "job_failed": Cause(lazy("Job failed"), Kind.JOB, Severity.WARNING,
                        lazy("The regular job %(subject)s failed in its last run")),
    "alert_failing": Cause(lazy("Alerts do not arrive"), Kind.CHANNEL, Severity.CRITICAL,
                           lazy("The alert channel %(subject)s does not work: people are not told")),
    "webhook_disabled": Cause(lazy("Webhook disabled"), Kind.SYSTEM, Severity.WARNING,
                              lazy("The webhook %(subject)s failed for too long and is disabled; its events wait")),
    "alerts_stuck": Cause(lazy("Alerts are not sent"), Kind.SYSTEM, Severity.CRITICAL,
                          lazy("Alerts have waited for more than 5 minutes and nobody sends them")),
}  # fmt: skip

#: What holds a session stopped -> its cause; any other hold is "on_hold".
_HOLDS = ("conflict", "store_missing", "store_damaged", "wrong_number")
#: State -> its cause.
_STATES = {State.LOGGED_OUT: "logged_out", State.BANNED: "banned"}


@dataclass(frozen=True)
class Fact:
    """Something that is the case now. `because`: the key of the fact that explains this one."""

    cause: str
    subject: str
    label: Words
    evidence: dict[str, Any] = field(default_factory=dict)
    because: str = ""

    @property
    def key(self) -> str:
        """Return the open_key of its incident."""
        return f"{self.cause}|{CAUSES[self.cause].kind}|{self.subject}"

    @property
    def title(self) -> Words:
        """Return the title of its incident."""
        return filled(CAUSES[self.cause].title, {"subject": self.label})


def facts(now: datetime) -> list[Fact]:
    """Return what is the case now, those that explain others first. A bounded number of queries."""
    fleet = {int(fact.subject): fact for fact in _fleet()}
    programs = list(_programs())
    roots = [*programs, *_jobs(now), *_hosts(now, programs), *_alerts(now), *_webhooks(), *fleet.values()]
    down = next((fact for fact in roots if fact.cause in ("host_down", "host_crashing")), None)
    sessions = list(_sessions(now, down, fleet))
    outdated = [fact for fact in sessions if fact.cause == "outdated"]
    return [*roots, *outdated[:1], *(fact for fact in sessions if fact.cause != "outdated")]


def _jobs(now: datetime) -> Iterator[Fact]:
    late = jobs.late(now)
    # All at once: the cluster stood still, and is one incident.
    first = next((name for name in ("live_back", "health") if name in late), "")
    for name in sorted(late, key=lambda name: name != first):
        because = f"job_late|{Kind.JOB}|{first}" if first and name != first else ""
        yield Fact("job_late", name, name, {"purpose": name}, because)
    for job in Job.objects.filter(name__in=jobs.JOBS).exclude(error=""):
        yield Fact("job_failed", job.name, job.name, {"error": job.error[:500]})


def _programs() -> Iterator[Fact]:
    for program in Program.objects.fatal():
        yield Fact("crash_loop", str(program)[:80], str(program), {
            "last_exit": program.last_exit, "crashes": len(program.crashes),
            "next_trial": program.retry_at.isoformat(timespec="seconds") if program.retry_at else None})  # fmt: skip


def _hosts(now: datetime, programs: list[Fact]) -> Iterator[Fact]:
    loops = {fact.subject: fact.key for fact in programs}  # a host's program has its name
    for host in Host.objects.filter(ended_at=None):
        if not host.is_live(now):
            last = host.heartbeat_at.isoformat(timespec="seconds") if host.heartbeat_at else "never"
            yield Fact("host_down", host.name, host.name, {"machine": host.machine, "process": host.pid,
                       "last_heartbeat": last}, loops.get(f"{host.name} ({host.machine})", ""))  # fmt: skip
    crashes: dict[str, int] = {}
    machines: dict[str, str] = {}
    for name, machine, kind in (
        HostEvent.objects.filter(at__gt=now - CRASH_SPAN, kind__in=[HostEvent.STARTED, HostEvent.ENDED])
        .order_by("id").values_list("host__name", "host__machine", "kind")
    ):  # fmt: skip
        machines[name] = machine
        crashes[name] = crashes.get(name, 0) + 1 if kind == HostEvent.STARTED else 0
    for name, count in crashes.items():
        if count > CRASHES:
            because = loops.get(f"{name} ({machines[name]})", "")
            yield Fact("host_crashing", name, name, {"starts": count, "minutes": CRASH_SPAN.seconds // 60}, because)


def _alerts(now: datetime) -> Iterator[Fact]:
    for channel in AlertChannel.objects.failing():
        yield Fact("alert_failing", str(channel.pk), channel.name, {"service": channel.service,
                   "error": channel.last_error})  # fmt: skip
    if waiting := AlertDelivery.objects.overdue(now).count():
        yield Fact("alerts_stuck", "", "", {"waiting": waiting})


def _webhooks() -> Iterator[Fact]:
    for endpoint in WebhookEndpoint.objects.broken():
        since = endpoint.failing_since.isoformat(timespec="seconds") if endpoint.failing_since else ""
        yield Fact("webhook_disabled", f"webhook {endpoint.pk}", str(endpoint), {
            "why": endpoint.disabled_reason, "failing_since": since})  # fmt: skip


def _fleet() -> Iterator[Fact]:
    ongoing = list(FleetCause.objects.ongoing().exclude(code=retry.OUTDATED))  # that one is told as "outdated"
    # Where all of them are on one host while others are well, it is that machine's network.
    failing = Session.objects.wanted_online().filter(state__in=FAILED, attempts__gt=0, host__isnull=False)
    where: dict[int, list[str]] = {}
    for code, name in failing.values_list("code", "host__name").order_by("host__name").distinct() if ongoing else ():
        where.setdefault(code or 0, []).append(name)
    for cause in ongoing:
        yield Fact("fleet", str(cause.code), _label(cause.code), {
            "sessions": cause.affected, "began": cause.began_at.isoformat(timespec="seconds"),
            "hosts": where.get(cause.code, [])})  # fmt: skip


def _label(code: int) -> Words:
    return filled(lazy("code %(code)d"), {"code": code}) if code else lazy("no code: the network, most likely")


def _sessions(now: datetime, down: Fact | None, fleet: Mapping[int, Fact]) -> Iterator[Fact]:
    wanted = Session.objects.select_related("account", "host").filter(account__desired=Desired.ONLINE)
    healthy = {"state": State.CONNECTED, "lease_expires_at__gt": now}
    outdated: list[str] = []
    for session in wanted.exclude(**healthy).exclude(state__in=[State.UNPAIRED, State.PAIRING]):
        if session.state == State.OUTDATED:
            outdated.append(str(session))
            continue
        cause = cause_of(session, now)
        if cause:
            lost = down is not None and cause == "offline" and str(session.host or down.subject) == down.subject
            because = (down.because or down.key) if down and lost else ""
            if cause in ("offline", "breaker_open", "banned") and (session.code or 0) in fleet:
                because = fleet[session.code or 0].key
            yield Fact(cause, str(session.account_id), str(session), _evidence(session), because)
    if outdated:
        yield Fact("outdated", "405", "405", {"accounts": outdated[:50], "count": len(outdated)})


def cause_of(session: Session, now: datetime) -> str:
    """Return what keeps a session that should be online from it, or "" while it may heal by itself."""
    if session.hold:
        return session.hold if session.hold in _HOLDS else "on_hold"
    state = State(session.state)
    if state in _STATES and not (state in NEEDS_PAIRING and session.reason == "by_staff"):
        return _STATES[state]
    if state in NEEDS_PAIRING:
        return ""
    if session.breaker_open:
        return "breaker_open"
    return "offline" if now - offline_since(session) >= OFFLINE_AFTER else ""


def offline_since(session: Session) -> datetime:
    """Return since when a session without a connection has had none, as far as its row tells.

    Each attempt changes its state, so the first failure after it was last connected counts, where there was one.
    """
    last = session.last_connected_at
    failed = [failure.at for failure in session.recent_failures if last is None or failure.at > last]
    if failed:
        return failed[0]
    if session.state == State.CONNECTED and session.host_id is not None and session.lease_expires_at is not None:
        return session.lease_expires_at  # connected in name only: its host no longer renews
    return max(session.state_changed_at, session.due_at or session.state_changed_at)


def _evidence(session: Session) -> dict[str, Any]:
    return {
        "state": session.state, "reason": session.reason, "code": session.code, "failures": session.attempts,
        "host": str(session.host or ""), "since": session.state_changed_at.isoformat(timespec="seconds"),
        "next_attempt": session.retry_at.isoformat(timespec="seconds") if session.retry_at else None,
    }  # fmt: skip


def evaluate(now: datetime) -> int:
    """Bring the incidents in line with the facts; return the number of changes."""
    standing = {row.open_key: row for row in Incident.objects.unresolved().filter(metric__in=CAUSES)}
    found = facts(now)
    changed = 0
    seen: list[int] = []
    for fact in found:
        parent = standing.get(fact.because)
        incident = standing.get(fact.key)
        if incident is None:
            incident = _open(fact, now, parent)
            changed += incident is not None
            if incident is not None:
                standing[fact.key] = incident
            continue
        seen.append(incident.pk)
        if parent is not None and incident.parent_id is None:
            incident.fold_into(parent, now)
        elif incident.evidence != fact.evidence:
            incident.seen(now, fact.evidence)
    for start in range(0, len(seen), 500):
        Incident.objects.filter(pk__in=seen[start : start + 500]).update(last_breach_at=now)
    current = {fact.key for fact in found}
    for key, row in standing.items():
        # A look into the past (the clock was set back) is no reason to end anything.
        if key not in current and now - row.last_breach_at >= CLEAR_AFTER:
            row.end(now)
            alerting.tell(row, EntryKind.RESOLVED)
            changed += 1
    return changed


def _open(fact: Fact, now: datetime, parent: Incident | None) -> Incident | None:
    cause = CAUSES[fact.cause]
    try:
        incident, change = Incident.open(fact.cause, cause.kind, fact.subject, str(fact.label), fact.title,
                                         cause.severity, now, fact.evidence, parent)  # fmt: skip
    except IntegrityError:  # a run beside this one was faster
        return None
    alerting.tell(incident, change)
    return incident


def account_of(incident: Incident) -> Account | None:
    """Return the account an incident is about, or None."""
    if incident.subject_kind != Kind.ACCOUNT:
        return None
    return Account.objects.filter(pk=incident.subject_id).first()
