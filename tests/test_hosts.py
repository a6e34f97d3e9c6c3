"""Hosts as a fleet: fair shares, draining, restarts asked for."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from sessions_app.host.pace import Pace
from sessions_app.host.sharing import fair_share, room
from sessions_app.models import Host, HostEvent, Session, SessionEvent
from tests.installation import Installation, fresh, live_host, wait_for
from tests.test_host import Running, paired, running, until
from tests.wasim import Wasim

__all__ = ["running"]


def test_hosts_of_one_size_share_evenly() -> None:
    assert fair_share(50, [50, 50]) == 25
    assert fair_share(10, [50, 50, 50]) == 4
    assert fair_share(0, [50]) == 0


def test_a_small_host_leaves_its_part_to_the_larger() -> None:
    assert fair_share(60, [10, 50]) == 50
    assert fair_share(60, [10, 50, 50]) == 25
    assert fair_share(500, [50, 50]) >= 50


def test_room_is_what_is_left_and_never_negative() -> None:
    assert room([(50, 20), (10, 12)]) == 30


def test_starts_are_spread_and_no_faster_than_their_pace() -> None:
    pace = Pace(10)
    started = [tick / 100 for tick in range(500) if pace.allows(tick / 100, (tick * 7 % 10) / 10)]
    assert 45 <= len(started) <= 62
    assert len({round(b - a, 2) for a, b in zip(started[10:], started[11:], strict=False)}) > 1


def test_a_pause_of_the_loop_is_caught_up_on_but_never_in_one_burst() -> None:
    pace = Pace(10)
    assert pace.allows(0, 0.5)
    assert sum(pace.allows(60, 0.5) for _ in range(100)) <= 6


def host(name: str = "host-1", **fields: Any) -> Host:
    return Host.objects.create(name=name, heartbeat_at=timezone.now(), boot="1", **fields)


@pytest.mark.django_db
def test_a_restart_is_asked_for_once_and_written_down() -> None:
    one = host()
    assert one.request_restart("ana", "memory") is True
    assert one.request_restart("ben") is False
    one.refresh_from_db()
    assert (one.restart_requested_by, one.restart_reason) == ("ana", "memory")
    assert list(HostEvent.objects.values_list("kind", "actor", "reason")) == [("restart", "ana", "memory")]
    assert not Host.objects.taking(timezone.now()).exists()


@pytest.mark.django_db
def test_a_host_that_does_not_run_cannot_be_restarted() -> None:
    Host.objects.create(name="host-1", heartbeat_at=timezone.now() - timedelta(minutes=5))
    with pytest.raises(CommandError, match="does not run"):
        call_command("hosts", "restart", "host-1")
    with pytest.raises(CommandError, match="There is no host “nobody”"):
        call_command("hosts", "drain", "nobody")


@pytest.mark.django_db
def test_draining_is_shown_and_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    host()
    call_command("hosts", "drain", "host-1", "--reason", "new disk", "--json")
    assert json.loads(capsys.readouterr().out)["doing"] == "draining"
    call_command("hosts", "undrain", "host-1")
    call_command("hosts", "undrain", "host-1")  # a second time changes nothing
    call_command("hosts", "list", "--json")
    assert "running" in capsys.readouterr().out
    assert list(HostEvent.objects.order_by("id").values_list("kind", flat=True)) == ["drain", "undrain"]


@pytest.mark.django_db(transaction=True)
def test_a_draining_host_hands_over_what_others_have_room_for(running: Running, settings: Any) -> None:
    settings.LEASE_RENEWAL = timedelta(seconds=0.2)
    rows = [paired(running, f"Account {n}", f"491511234567{n}") for n in range(3)]
    first = Host.objects.get(name="host-1")
    first.drain("ana")
    wait_for(lambda: running.hosts["host-1"][0]._draining)
    assert all(fresh(row).host == first for row in rows)  # nobody else: better here than nowhere
    running.start("host-2")
    second = wait_for(lambda: Host.objects.filter(name="host-2").first())
    assert second is not None
    for row in rows:
        until(row, "connected", host=second)
        assert running.fake.server.most_live[row.store_path] == 1
    first.undrain("ana")
    wait_for(lambda: not running.hosts["host-1"][0]._draining)
    second.drain("ana")
    for row in rows:
        until(row, "connected", host=first)


@pytest.mark.django_db(transaction=True)
def test_no_more_than_the_surplus_is_given_while_the_first_takes_long_to_leave(running: Running, settings: Any) -> None:
    settings.LEASE_RENEWAL = timedelta(seconds=0.1)
    rows = [paired(running, f"Account {n}", f"491511234567{n}") for n in range(4)]
    gates = [running.fake.hold_stop(row.store_path) for row in rows]
    running.start("host-2")
    one = running.hosts["host-1"][0]
    wait_for(lambda: any(runner.leaving for runner in one._runners.values()))
    renewals: set[float] = set()
    wait_for(lambda: renewals.add(one._renewed) or len(renewals) > 5)  # type: ignore[func-returns-value]
    for gate in gates:
        gate.set()

    def owned() -> list[int]:
        return [Session.objects.filter(host__name=f"host-{n}", state="connected").count() for n in (1, 2)]

    wait_for(lambda: sum(owned()) == 4 and owned()[1] > 0)
    assert owned() == [3, 1]  # the share is 2, and one more than that stays where it is
    assert SessionEvent.objects.filter(kind="released", reason="handed_over").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_restart_hands_over_first_and_says_why(running: Running, settings: Any) -> None:
    settings.LEASE_RENEWAL = timedelta(seconds=0.2)
    row = paired(running)
    running.start("host-2")
    wait_for(lambda: Host.objects.filter(name="host-2", ended_at=None).exists())
    Host.objects.get(name="host-1").request_restart("ana", "memory")
    one, thread = running.hosts.pop("host-1")
    thread.join(20)
    assert not thread.is_alive()
    assert one.exit_code == 75
    until(row, "connected", host=Host.objects.get(name="host-2"))
    assert running.fake.server.most_live[row.store_path] == 1
    assert HostEvent.objects.filter(kind="ended", actor="ana", reason="memory").exists()


@pytest.mark.real
def test_capacity_and_region_are_a_host_s_own_and_shown(installation: Installation, admin_client: Client) -> None:
    installation.environment["HOST_REGION"] = "Jakarta"
    installation.start_host("host-1", "--capacity", "7")
    installation.start_host("host-2", "--region", "Surabaya")
    wait_for(lambda: live_host("host-1") and live_host("host-2"), 30, installation.log("host-2"))
    listed = json.loads(installation.manage("hosts", "list", "--json").stdout)
    assert [(one["name"], one["region"], one["capacity"]) for one in listed] == [
        ("host-1", "Jakarta", 7), ("host-2", "Surabaya", 50)]  # fmt: skip
    only = installation.manage("hosts", "list", "--region", "Surabaya").stdout
    assert "region Surabaya" in only
    assert "host-1" not in only
    page = admin_client.get("/admin/sessions_app/host/", {"region": "Jakarta"}).content.decode()
    assert "host-1" in page
    assert "host-2" not in page
    too_long = installation.manage("run_session_host", "--name", "host-3", "--region", "x" * 41)
    assert too_long.returncode == 1
    assert "at most 40 signs" in too_long.stderr
    assert installation.programs["host-2"].stop() == 0
    installation.start_host("host-2", HOST_REGION="")  # the label is that of the process, not kept
    wait_for(lambda: (row := live_host("host-2")) and row.region == "", 30, installation.log("host-2"))


@pytest.mark.real
def test_a_lone_host_restarts_and_its_sessions_come_back_with_it(installation: Installation, sim: Wasim) -> None:
    installation.environment["LEASE_RENEWAL"] = "1"
    number = "4915300000001"
    session = installation.paired("Front office", number)
    program = installation.start_host()
    installation.until(session, "connected")
    answer = installation.manage("hosts", "restart", "host-1", "--reason", "memory")
    assert answer.returncode == 0, answer.stderr
    wait_for(lambda: not program.running(), 20, installation.log("host-1"))
    assert program.stop() == 75  # what makes supervisord, systemd and Kubernetes start it again
    assert SessionEvent.objects.filter(session=session, kind="stopped", reason="host_restart").exists()
    installation.start_host()
    installation.until(session, "connected")
    assert sim.most_live(number) == 1
    row = live_host()
    assert row is not None
    assert row.restart_requested_at is None


@pytest.mark.real
def test_three_hosts_share_and_surplus_changes_hands_without_a_conflict_on_the_wire(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment["LEASE_RENEWAL"] = "1"
    numbers = [str(4_915_300_000_100 + n) for n in range(9)]
    sessions = [installation.paired(f"Account {n}", n) for n in numbers]
    installation.start_host("host-1")
    installation.until_all(sessions, "connected")
    for name in ("host-2", "host-3"):
        installation.start_host(name)

    def shares() -> list[int]:
        return [Session.objects.filter(host__name=f"host-{n}", state="connected").count() for n in (1, 2, 3)]

    # A host keeps one more than its share of 3, so that nothing goes to and fro.
    wait_for(lambda: sum(shares()) == 9 and max(shares()) <= 4 and min(shares()) >= 1, 60, shares)
    devices = [sim.device(number) for number in numbers]
    assert {device.max_live_sockets for device in devices} == {1}
    assert sum(device.replaced for device in devices) == 0
    # The second host may have passed on to the third what it got from the first; nothing goes round.
    moved = SessionEvent.objects.filter(kind="released", reason="handed_over").values_list("session", flat=True)
    assert len(moved) >= 9 - shares()[0]
    assert max(Counter(moved).values()) <= 2


@pytest.mark.real
@pytest.mark.slow
def test_the_accounts_of_a_killed_host_live_elsewhere_within_45_seconds(
    installation: Installation, sim: Wasim
) -> None:
    for setting in ("LEASE", "LEASE_RENEWAL"):  # as in production
        assert setting not in installation.environment
    for name in ("host-1", "host-2"):
        installation.start_host(name)
        wait_for(lambda name=name: live_host(name), 30)  # type: ignore[misc]
    numbers = [str(4_915_300_000_200 + n) for n in range(10)]
    sessions = [installation.paired(f"Account {n}", n) for n in numbers]
    installation.until_all(sessions, "connected")
    orphans = [session for session in sessions if str(fresh(session).host) == "host-1"]
    assert len(orphans) >= 4
    killed = time.time()
    installation.programs["host-1"].kill()
    for session in orphans:
        row = installation.until(session, "connected", 60, host=live_host("host-2"))
        assert max(sim.device(row.account.phone or "").login_times) - killed <= 45
        assert SessionEvent.objects.filter(session=session, kind="lease_lost", evidence__owner="host-1").exists()
    assert {sim.most_live(number) for number in numbers} == {1}
