"""What /metrics tells, as data: each family reads rows when it is scraped, so every web process tells the same.

docs/metrics.md lists them for people; tests/test_prometheus.py proves that list complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.db.models import Count, Q, Sum
from django_q.models import OrmQ
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from accounts.models import Desired
from messaging.models import Delivery, Message
from messaging.models import DeliveryState as WebhookState
from messaging.states import MessageState
from monitoring.forecasting.learner import Finding
from monitoring.models import (
    AlertChannel,
    AlertDelivery,
    DeliveryState,
    ForecastRun,
    HealthSample,
    Incident,
    IncidentState,
    RequestCount,
    Severity,
    Threshold,
)  # fmt: skip
from sessions_app import jobs
from sessions_app.models import Host, Job, Session, SessionEvent
from sessions_app.states import State

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: A reading of a health metric older than this is left out: unknown, not the last good value.
FRESH = timedelta(minutes=2)
_FIVE_MINUTES = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

#: The labels' values and the number.
Sample = tuple[tuple[str, ...], float]


class Rows:
    """The rows one scrape looks at, each read once."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    @cached_property
    def hosts(self) -> list[Host]:
        return list(Host.objects.filter(ended_at=None))

    @cached_property
    def states(self) -> Counter[str]:
        return Counter(dict(Session.objects.values_list("state").annotate(n=Count("pk")).order_by()))

    @cached_property
    def session_flags(self) -> dict[str, int]:
        found: dict[str, int] = Session.objects.aggregate(
            wanted=Count("pk", filter=Q(account__desired=Desired.ONLINE)),
            held=Count("pk", filter=~Q(hold="")),
            breaker=Count("pk", filter=Q(breaker_open=True)),
            stale=Count("pk", filter=Q(lease_expires_at__lt=self.now)),
            due=Count("pk", filter=Q(due_at__lte=self.now)),
        )
        return found

    @cached_property
    def losses(self) -> list[Sample]:
        lost = SessionEvent.objects.filter(at__gt=self.now - _HOUR, before=State.CONNECTED).exclude(
            after__in=["", State.CONNECTED]
        )
        return [((str(code or 0),), n) for code, n in lost.values_list("code").annotate(n=Count("pk")).order_by("code")]

    @cached_property
    def jobs(self) -> list[Job]:
        return list(Job.objects.all())

    @cached_property
    def late_jobs(self) -> frozenset[str]:
        return frozenset(jobs.late(self.now))

    @cached_property
    def readings(self) -> list[HealthSample]:
        newest: dict[tuple[str, str], HealthSample] = {}
        for sample in HealthSample.objects.readings(self.now - FRESH).filter(count__gt=0):  # 0: nothing to measure
            newest[sample.metric, sample.subject] = sample
        return list(newest.values())

    @cached_property
    def requests(self) -> dict[str, int]:
        sums = RequestCount.objects.since(self.now - _FIVE_MINUTES).aggregate(all=Sum("count"), bad=Sum("errors"))
        return {name: value or 0 for name, value in sums.items()}

    @cached_property
    def incidents(self) -> list[Sample]:
        found = Counter({
            (severity, state): n for severity, state, n in
            Incident.objects.unresolved().values_list("severity", "state").annotate(n=Count("pk")).order_by()
        })  # fmt: skip
        open_states = (IncidentState.OPEN, IncidentState.ACKNOWLEDGED)
        return [((str(one), str(state)), found[one, state]) for one in Severity for state in open_states]


@dataclass(frozen=True)
class Family:
    """One gauge: its name, what it means, its labels, and what reads its samples."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Rows], Iterable[Sample]]


def _alerts(rows: Rows) -> list[Sample]:
    waiting = (DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.FAILED)
    recent = AlertDelivery.objects.filter(state__in=waiting, created_at__gt=rows.now - _DAY)
    found = dict(recent.values_list("state").annotate(n=Count("pk")).order_by())
    return [((str(state),), found.get(state, 0)) for state in waiting]


_OUTBOX = (MessageState.QUEUED, MessageState.SENDING, MessageState.UNCERTAIN)


def _outbox(rows: Rows) -> list[Sample]:
    found = dict(Message.objects.filter(state__in=_OUTBOX).values_list("state").annotate(n=Count("pk")).order_by())
    return [((str(state),), found.get(state, 0)) for state in _OUTBOX]


def _webhooks(rows: Rows) -> list[Sample]:
    waiting = (WebhookState.PENDING, WebhookState.DEAD)
    found = dict(Delivery.objects.filter(state__in=waiting).values_list("state").annotate(n=Count("pk")).order_by())
    return [((str(state),), found.get(state, 0)) for state in waiting]


def _warned(rows: Rows) -> list[Sample]:
    run = ForecastRun.objects.current(rows.now)
    return [((), run.forecasts.filter(high=True).count())] if run is not None and run.finding == Finding.GOOD else []


def _one(read: Callable[[Rows], float]) -> Callable[[Rows], list[Sample]]:
    return lambda rows: [((), read(rows))]


def _per_host(read: Callable[[Host, Rows], float | None]) -> Callable[[Rows], list[Sample]]:
    def samples(rows: Rows) -> list[Sample]:
        found = ((host, read(host, rows)) for host in rows.hosts)
        return [((host.name,), value) for host, value in found if value is not None]

    return samples


def _flag(name: str) -> Callable[[Rows], list[Sample]]:
    return _one(lambda rows: rows.session_flags[name])


def _field(name: str) -> Callable[[Rows], list[Sample]]:
    return _per_host(lambda host, rows: getattr(host, name))


def _heartbeat_age(host: Host, rows: Rows) -> float | None:
    return (rows.now - host.heartbeat_at).total_seconds() if host.heartbeat_at else None


def _job_ages(rows: Rows) -> list[Sample]:
    return [((job.name,), (rows.now - job.last_run_at).total_seconds()) for job in rows.jobs if job.last_run_at]


def _limits(rows: Rows) -> list[Sample]:
    found = Threshold.objects.filter(enabled=True, account=None)
    return [((row.metric, str(severity)), getattr(row, severity)) for row in found for severity in Severity]


FAMILIES: tuple[Family, ...] = (
    Family("waserver_sessions", "Sessions by their state.", ("state",),
           lambda rows: [((str(state),), rows.states[state]) for state in State]),
    Family("waserver_sessions_wanted", "Sessions staff want online.", (), _flag("wanted")),
    Family("waserver_sessions_held", "Sessions that wait for a person.", (), _flag("held")),
    Family("waserver_sessions_breaker_open", "Sessions whose circuit breaker is open.", (),
           _flag("breaker")),
    Family("waserver_sessions_stale", "Sessions whose owner's lease ran out: their state cannot be trusted.", (),
           _flag("stale")),
    Family("waserver_sessions_due", "Sessions a host should look at now.", (), _flag("due")),
    Family("waserver_connections_lost", "Connections lost in the last hour, by code (0: none was given).", ("code",),
           lambda rows: rows.losses),
    Family("waserver_host_up", "1 while a session host gives signs of life.", ("host",),
           _per_host(lambda host, rows: host.is_live(rows.now))),
    Family("waserver_host_info", "Always 1; says where a host runs.", ("host", "machine", "region"),
           lambda rows: [((host.name, host.machine, host.region), 1) for host in rows.hosts]),
    Family("waserver_host_sessions", "WhatsApp clients a host runs.", ("host",), _field("sessions")),
    Family("waserver_host_capacity", "WhatsApp clients a host may run.", ("host",), _field("capacity")),
    Family("waserver_host_memory_bytes", "Resident memory of a host.", ("host",), _field("rss")),
    Family("waserver_host_open_files", "Open files of a host.", ("host",), _field("fds")),
    Family("waserver_host_heartbeat_age_seconds", "Seconds since a host's last sign of life.", ("host",),
           _per_host(_heartbeat_age)),
    Family("waserver_job_age_seconds", "Seconds since a regular job last began.", ("job",), _job_ages),
    Family("waserver_job_duration_seconds", "How long a regular job's last run took.", ("job",),
           lambda rows: [((job.name,), job.duration.total_seconds()) for job in rows.jobs if job.duration]),
    Family("waserver_job_failed", "1 when a regular job's last run failed.", ("job",),
           lambda rows: [((job.name,), bool(job.error)) for job in rows.jobs]),
    Family("waserver_job_late", "1 when a regular job should have run by now and did not.", ("job",),
           lambda rows: [((job.name,), job.name in rows.late_jobs) for job in rows.jobs]),
    Family("waserver_queue_tasks", "Tasks that wait for the cluster (only with the database as the queue).", (),
           _one(lambda rows: OrmQ.objects.count())),
    Family("waserver_api_requests", "API requests of the last 5 minutes.", (), _one(lambda rows: rows.requests["all"])),
    Family("waserver_api_errors", "API requests of the last 5 minutes answered with a server error.", (),
           _one(lambda rows: rows.requests["bad"])),
    Family("waserver_health", "The newest reading of a health metric, in its card's unit; absent when old.",
           ("metric", "subject"), lambda rows: [((s.metric, s.subject), s.value) for s in rows.readings]),
    Family("waserver_health_limit", "The limit beyond which a health metric is bad.", ("metric", "severity"), _limits),
    Family("waserver_incidents", "Incidents that are not resolved.", ("severity", "state"),
           lambda rows: rows.incidents),
    Family("waserver_outbox_messages", "Messages to be sent, being sent, or sent with unknown outcome.", ("state",),
           _outbox),
    Family("waserver_webhook_deliveries", "Webhook calls that wait, or were given up.", ("state",), _webhooks),
    Family("waserver_alerts", "Alerts of the last day that did not arrive (yet), by state.", ("state",), _alerts),
    Family("waserver_alert_channels_failing", "Alert channels whose last delivery did not arrive.", (),
           _one(lambda rows: AlertChannel.objects.failing().count())),
    Family("waserver_sessions_warned", "Sessions the forecast warns of for this hour; absent without a forecast.", (),
           _warned),
)  # fmt: skip


class RowCollector(Collector):
    """Every family, read at `now`."""

    def __init__(self, now: datetime) -> None:
        self._rows = Rows(now)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for family in FAMILIES:
            gauge = GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
            for labels, value in family.read(self._rows):
                gauge.add_metric(labels, float(value))
            yield gauge


def exposition(now: datetime) -> bytes:
    """Return the text Prometheus reads. Raises DatabaseError when the rows cannot be read."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RowCollector(now))
    text: bytes = generate_latest(registry)
    return text
