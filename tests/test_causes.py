"""Incidents of sessions, hosts and jobs, folded where one explains the other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import Schedule

from accounts.models import Account
from monitoring.causes import _HOLDS, CAUSES, facts
from monitoring.models import Incident, Program
from sessions_app.models import FleetCause, Host, HostEvent, Job, Session
from tests.health import Clock, kinds, unresolved

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Clock:
    Job.objects.update(last_run_at=timezone.now() + timedelta(days=1))
    return Clock()


def session(label: str, desired: str = "online", **fields: Any) -> Session:
    row: Session = Account.objects.create(label=label, desired=desired).session
    Session.objects.filter(pk=row.pk).update(**fields)
    return row


def host(name: str, clock: Clock, age: float = 0, **fields: Any) -> Host:
    seen = clock.now + timedelta(minutes=10) - timedelta(seconds=age)
    return Host.objects.create(name=name, heartbeat_at=seen, **fields)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"state": "logged_out", "reason": "removed_on_phone"}, "logged_out"),
        ({"state": "banned"}, "banned"),
        ({"state": "stopped", "hold": "conflict"}, "conflict"),
        ({"state": "stopped", "hold": "store_missing"}, "store_missing"),
        ({"state": "stopped", "hold": "wrong_number"}, "wrong_number"),
        ({"state": "stopped", "hold": "something_new"}, "on_hold"),
        ({"state": "waiting", "breaker_open": True}, "breaker_open"),
        ({"state": "outdated"}, "outdated"),
    ],
)
def test_a_session_that_needs_a_person_has_one_incident_until_it_is_well(
    clock: Clock, fields: dict[str, Any], cause: str
) -> None:
    row = session("Front office", **fields)
    clock.run(3)
    assert list(unresolved()) == [cause]
    lease = clock.now + timedelta(hours=1)
    Session.objects.filter(pk=row.pk).update(state="connected", hold="", breaker_open=False, lease_expires_at=lease)
    clock.run(2)
    assert list(unresolved()) == [cause]
    clock.run()
    assert unresolved() == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "unpaired"},
        {"state": "pairing"},
        {"state": "logged_out", "reason": "by_staff"},
        {"state": "logged_out", "desired": "offline"},
        {"state": "waiting"},
    ],
)
def test_what_is_wanted_so_or_heals_by_itself_is_no_incident(clock: Clock, fields: dict[str, Any]) -> None:
    session("a", **fields)
    clock.run(3)
    assert unresolved() == {}


def test_every_cause_can_be_told() -> None:
    assert set(_HOLDS) <= set(CAUSES)
    for cause in CAUSES.values():
        assert str(cause.title) % {"subject": "x"}
        assert cause.label


def test_sessions_of_a_silent_host_are_folded_into_its_incident(clock: Clock) -> None:
    down = host("host-1", clock, age=700)
    for n in range(3):
        session(f"lost {n}", state="connected", host=None, due_at=clock.now - timedelta(minutes=6),
                state_changed_at=clock.now - timedelta(hours=1))  # fmt: skip
    session("well", state="connected", host=down, lease_expires_at=clock.now + timedelta(hours=1))
    clock.run()
    parent = Incident.objects.get(metric="host_down")
    assert parent.parent is None
    lost = Incident.objects.filter(metric="offline")
    assert lost.count() == 3
    assert set(lost.values_list("parent", flat=True)) == {parent.pk}
    Host.objects.update(heartbeat_at=clock.now + timedelta(hours=1))
    Session.objects.update(lease_expires_at=clock.now + timedelta(hours=1))
    clock.run(3)
    assert unresolved() == {}


def test_a_session_incident_is_folded_when_its_cause_is_found_later(clock: Clock) -> None:
    session("lost", state="connected", host=None, due_at=clock.now - timedelta(minutes=6),
                state_changed_at=clock.now - timedelta(hours=1))  # fmt: skip
    clock.run()
    host("host-1", clock, age=700)
    clock.run(2)
    child = Incident.objects.get(metric="offline")
    assert child.parent == Incident.objects.get(metric="host_down")
    assert kinds(child) == ["opened", "folded"]


def test_a_host_that_was_stopped_is_not_down(clock: Clock) -> None:
    host("host-1", clock, age=700, ended_at=clock.now)
    clock.run(2)
    assert unresolved() == {}


def test_a_host_that_keeps_crashing_is_one_incident(clock: Clock) -> None:
    row = host("host-1", clock)
    for n in range(5):
        HostEvent.objects.create(host=row, at=clock.now - timedelta(seconds=60 * n), kind=HostEvent.STARTED)
    clock.run()
    assert unresolved() == {"host_crashing": "critical"}
    HostEvent.objects.create(host=row, at=clock.now, kind=HostEvent.ENDED)
    clock.run(3)
    assert unresolved() == {}


def test_a_program_that_rests_after_crashing_explains_its_host(clock: Clock) -> None:
    host("host-1", clock, age=700, machine="office")
    Program.objects.create(machine="office", name="host-1", state="fatal", recorded_at=clock.now, last_exit="status 1")
    clock.run()
    assert unresolved() == {"crash_loop": "critical", "host_down": "critical"}
    assert Incident.objects.get(metric="host_down").parent == Incident.objects.get(metric="crash_loop")
    Program.objects.update(state="running")
    Host.objects.update(heartbeat_at=clock.now + timedelta(hours=1))
    clock.run(3)
    assert unresolved() == {}


def test_sessions_that_fail_for_a_common_cause_are_folded_into_its_incident(clock: Clock) -> None:
    FleetCause.objects.create(code=408, open_code=408, began_at=clock.now, affected=3)
    where = host("host-1", clock)
    for n in range(3):
        session(f"lost {n}", state="waiting", code=408, attempts=5, breaker_open=True, host=where)
    session("other", state="waiting", code=503, breaker_open=True)
    clock.run()
    parent = Incident.objects.get(metric="fleet")
    assert (parent.subject_kind, parent.severity, parent.evidence["hosts"]) == ("code", "critical", ["host-1"])
    assert parent.folded.count() == 3
    assert Incident.objects.get(subject_label="other").parent is None
    FleetCause.objects.update(ended_at=clock.now, open_code=None)
    clock.run(3)
    assert not Incident.objects.filter(metric="fleet").unresolved().exists()


@pytest.mark.parametrize(("minutes", "incident"), [(4, False), (6, True)])
def test_a_session_that_keeps_trying_is_offline_since_its_first_failure(
    clock: Clock, minutes: int, incident: bool
) -> None:
    failures = [[(clock.now - timedelta(hours=2)).isoformat(), 408],  # before it was last connected
                [(clock.now - timedelta(minutes=minutes)).isoformat(), 408],
                [(clock.now - timedelta(seconds=20)).isoformat(), 408]]  # fmt: skip
    session("a", state="waiting", state_changed_at=clock.now - timedelta(seconds=20), failures=failures,
            last_connected_at=clock.now - timedelta(hours=1), attempts=2)  # fmt: skip
    clock.run()
    assert ("offline" in unresolved()) is incident


def test_one_outdated_client_is_one_incident_for_all(clock: Clock) -> None:
    for n in range(5):
        session(f"account {n}", state="outdated", code=405)
    clock.run()
    incident = Incident.objects.get()
    assert incident.metric == "outdated"
    assert incident.evidence["count"] == 5


def test_a_cluster_that_stood_still_is_one_incident_and_a_new_one_none(clock: Clock) -> None:
    Job.objects.update(last_run_at=None)
    Schedule.objects.update(next_run=clock.now + timedelta(minutes=1))  # a fresh installation: nothing was due yet
    clock.run()
    assert unresolved() == {}
    Job.objects.update(last_run_at=clock.now - timedelta(days=60))
    clock.run()
    assert Incident.objects.unresolved().roots().get().subject_id == "live_back"
    assert Incident.objects.unresolved().count() > 5


def test_a_late_job_and_a_failed_one_are_incidents(clock: Clock) -> None:
    Job.objects.filter(name="cleanup").update(last_run_at=clock.now - timedelta(hours=2))
    Job.objects.filter(name="live_back").update(error="DatabaseError: locked")
    clock.run()
    assert unresolved() == {"job_late": "warning", "job_failed": "warning"}


def test_a_thousand_sessions_in_trouble_take_few_queries(clock: Clock, django_assert_max_num_queries: Any) -> None:
    Account.objects.bulk_create(Account(label=f"account {n}") for n in range(1000))
    Session.objects.bulk_create(
        Session(account=account, state="waiting", state_changed_at=clock.now - timedelta(hours=1), breaker_open=True)
        for account in Account.objects.all()
    )
    with django_assert_max_num_queries(12):
        assert len(facts(clock.now)) == 1000
