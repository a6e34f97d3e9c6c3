"""The health job: readings, incidents, actions; thresholds and incidents as rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts.models import Account
from monitoring import actions, health
from monitoring.metrics import METRICS, Action
from monitoring.models import EntryKind, HealthSample, Incident, IncidentState, Severity, Threshold
from sessions_app import jobs
from sessions_app.models import Host, Job, SessionEvent
from tests.health import Clock, kinds, measured, unresolved

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Clock:
    Job.objects.update(last_run_at=timezone.now() + timedelta(days=1))  # no job is late in these tests
    return Clock()


# -- metrics and thresholds


def test_every_metric_is_declared_completely() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert callable(import_string(metric.measure))
        assert metric.label
        assert metric.definition
    orders = [metric.order for metric in METRICS.values() if metric.order]
    assert orders == sorted(set(orders))
    assert list(METRICS)[:4] == ["memory_usage", "error_rate", "response_time", "failed_requests"]


def test_every_action_can_be_done() -> None:
    assert set(actions.RULES) == set(Action) - {Action.NONE}


def test_a_fresh_installation_has_the_thresholds_of_the_design() -> None:
    rows = Threshold.objects.filter(account=None).values_list("metric", "warning", "critical", "action")
    found = {row[0]: row[1:] for row in rows}
    assert found["memory_usage"] == (80, 95, "restart_host")
    assert found["error_rate"] == (5, 10, "investigate")
    assert found["response_time"] == (3, 5, "performance_check")
    assert found["failed_requests"] == (10, 50, "notify")


@pytest.mark.parametrize(
    ("metric", "warning", "critical", "words"),
    [
        ("memory_usage", 95, 80, "must be below the critical one (80)"),
        ("memory_usage", 80, 80, "must be below"),
        ("memory_usage", 80, 100, "100 % or more can never be exceeded"),
        ("response_time", -1, 5, "use 0 or more"),
    ],
)
def test_an_impossible_threshold_is_refused(metric: str, warning: float, critical: float, words: str) -> None:
    row = Threshold.objects.get(metric=metric, account=None)
    row.warning, row.critical = warning, critical
    with pytest.raises(ValidationError, match=words.replace("(", r"\(").replace(")", r"\)")):
        row.full_clean()


def test_an_account_may_have_a_threshold_where_that_makes_sense_and_only_one() -> None:
    account = Account.objects.create(label="Front office")
    with pytest.raises(ValidationError, match="for the whole server only"):
        Threshold(metric="memory_usage", account=account, warning=50, critical=60).full_clean(exclude=["key"])
    own = Threshold(metric="error_rate", account=account, warning=50, critical=60)
    own.full_clean(exclude=["key"])
    own.save()
    with pytest.raises(ValidationError, match="change that one"):
        Threshold(metric="error_rate", account=account, warning=1, critical=2).full_clean(exclude=["key"])
    with pytest.raises(IntegrityError), transaction.atomic():
        Threshold.objects.create(metric="error_rate", account=account, warning=1, critical=2)
    with pytest.raises(IntegrityError), transaction.atomic():
        Threshold.objects.create(metric="memory_usage", warning=1, critical=2)


# -- incidents


def test_a_breach_opens_escalates_and_resolves_one_incident(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(monkeypatch, response_time=4.0) as told:
        clock.run()
        assert unresolved() == {}
        clock.run()
        assert unresolved() == {"response_time": "warning"}
        told["response_time"] = 6.0
        clock.run(2)
        assert unresolved() == {"response_time": "critical"}
        told["response_time"] = 1.0
        clock.run(2)
        assert unresolved() == {"response_time": "critical"}
        clock.run()
    incident = Incident.objects.get()
    assert incident.state == IncidentState.RESOLVED
    assert kinds(incident) == ["opened", "action", "escalated", "action", "resolved"]
    assert incident.title == "Response time: 6.00 s, limit 5 s"


def test_what_returns_within_ten_minutes_is_the_same_incident(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(monkeypatch, backlog=2000.0) as told:
        clock.run(2)
        told["backlog"] = 0.0
        clock.run(3)
        told["backlog"] = 2000.0
        clock.run(2)
        first = Incident.objects.get()
        assert first.is_open
        assert kinds(first) == ["opened", "resolved", "reopened"]
        told["backlog"] = 0.0
        clock.run(25)
        told["backlog"] = 2000.0
        clock.run(2)
    assert Incident.objects.count() == 2


def test_missing_readings_neither_open_nor_resolve(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(monkeypatch, backlog=2000.0) as told:
        clock.run(2)
        told["backlog"] = None
        clock.run(10)
    assert unresolved() == {"backlog": "warning"}
    assert HealthSample.objects.filter(metric="backlog").count() == 2


def test_a_metric_that_cannot_be_measured_takes_no_other_with_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(moment: Any) -> None:
        raise OSError("no such file")

    monkeypatch.setattr("monitoring.measuring.memory.memory_usage", fail)
    clock.run()
    assert "memory_usage could not be measured" in caplog.text
    found = set(HealthSample.objects.values_list("metric", flat=True))
    assert "memory_usage" not in found
    assert {"error_rate", "live_back_age"} <= found


def test_a_doubled_run_writes_one_reading(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(monkeypatch, backlog=2000.0):
        clock.run()
        health.health(clock.now + timedelta(seconds=3))
    assert HealthSample.objects.filter(metric="backlog").count() == 1
    assert unresolved() == {}


def test_at_most_one_incident_is_open_per_subject(clock: Clock) -> None:
    Incident.open("backlog", "system", "", "", "title", Severity.WARNING, clock.now, {})
    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.open("backlog", "system", "", "", "title", Severity.WARNING, clock.now, {})
    other, _change = Incident.open("backlog", "account", "7", "", "title", Severity.WARNING, clock.now, {})
    other.end(clock.now)
    assert other.open_key is None


def test_a_clock_set_back_leaves_no_readings_of_the_future(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(monkeypatch, backlog=2000.0):
        clock.run(2)
        clock.now -= timedelta(hours=3)
        clock.run(2)
    assert HealthSample.objects.filter(at__gt=clock.now).count() == 0
    assert unresolved() == {"backlog": "warning"}


def test_an_account_of_its_own_is_measured_by_itself(clock: Clock) -> None:
    account, other = Account.objects.create(label="Loud"), Account.objects.create(label="Quiet")
    Threshold.objects.create(metric="failed_requests", account=account, warning=2, critical=4, action="investigate")
    Threshold.objects.filter(metric="failed_requests", account=None).update(enabled=False)
    for one, failures in ((account, 3), (other, 9)):
        for _n in range(failures):
            SessionEvent.objects.create(session=one.session, at=clock.now, kind="connect_failed", code=408)
    clock.run(2)
    incident = Incident.objects.get()
    assert (incident.subject_kind, incident.subject_id) == ("account", str(account.pk))
    assert incident.title == "Failed requests of Loud: 3 per hour, limit 2 per hour"
    Threshold.objects.filter(account=account).delete()
    clock.run()
    incident.refresh_from_db()
    assert not incident.is_open


def test_few_operations_have_no_error_rate(clock: Clock) -> None:
    session = Account.objects.create(label="a").session
    for _n in range(19):
        SessionEvent.objects.create(session=session, at=clock.now, kind="connect_failed", code=408)
    clock.run()
    assert HealthSample.objects.get(metric="error_rate").count == 0
    SessionEvent.objects.create(session=session, at=clock.now, kind="connected")
    clock.run()
    assert HealthSample.objects.filter(metric="error_rate").order_by("at").last().value == 95.0  # type: ignore[union-attr]


def test_the_number_of_queries_does_not_grow_with_accounts(clock: Clock) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            clock.run()
        return len(queries)

    Account.objects.create(label="first")
    clock.run()
    few = count()
    for n in range(60):
        Account.objects.create(label=f"account {n}")
    assert count() <= few


# -- what staff do


def test_staff_acknowledge_assign_comment_and_resolve(clock: Clock) -> None:
    ana = User.objects.create_superuser("ana")
    incident, _change = Incident.open("backlog", "system", "", "", "title", Severity.WARNING, clock.now, {})
    assert incident.acknowledge(ana)
    assert not incident.acknowledge(ana)
    incident.assign(ana, ana)
    incident.add_note("Looking at it.", ana)
    assert incident.resolve(ana, "Fixed.")
    assert not incident.resolve(ana)
    lines = list(incident.entries.values_list("kind", "who", "text"))
    assert lines == [
        ("opened", "", "title"), ("acknowledged", "ana", ""), ("assigned", "ana", "to ana"),
        ("note", "ana", "Looking at it."), ("resolved", "ana", "Fixed."),
    ]  # fmt: skip


# -- actions


def test_the_largest_host_on_this_machine_is_restarted_at_most_once_in_ten_minutes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitoring.measuring.memory import Process

    for name, pid, rss in (("host-1", 101, 50e6), ("host-2", 102, 900e6), ("elsewhere", 103, 5000e6)):
        Host.objects.create(name=name, pid=pid, rss=rss, heartbeat_at=timezone.now() + timedelta(hours=1))
    monkeypatch.setattr("monitoring.measuring.memory.processes",
                        lambda: [Process(102, "host", 900_000_000), Process(101, "host", 50_000_000)])  # fmt: skip
    with measured(monkeypatch, memory_usage=97.0):
        clock.run(2)
        assert list(Host.objects.exclude(restart_requested_at=None).values_list("name", flat=True)) == ["host-2"]
        clock.run(15)
        incident = Incident.objects.get(metric="memory_usage")
        assert kinds(incident).count("action") == 1
        clock.run(8)
    assert kinds(incident).count("action") == 2


def test_an_action_that_fails_is_recorded_and_keeps_nothing_from_being_told(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(now: datetime) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("monitoring.diagnosis.slowness", fail)
    told: list[str] = []
    monkeypatch.setattr("monitoring.alerting.tell", lambda incident, change: told.append(change))
    with measured(monkeypatch, response_time=9.0):
        clock.run(2)
    entry = Incident.objects.get().entries.get(kind=EntryKind.ACTION)
    assert entry.text == "The action failed: disk full"
    assert told == ["opened"]


def test_the_job_is_planned_half_way_between_two_runs_of_live_back() -> None:
    from croniter import croniter

    start = datetime(2026, 1, 1, tzinfo=timezone.get_current_timezone())
    each = croniter(jobs.JOBS["health"].cron, start)
    assert [each.get_next(datetime).second for _n in range(4)] == [15, 45, 15, 45]
