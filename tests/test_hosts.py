"""Hosts as a fleet: fair shares, draining, restarts asked for."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from sessions_app.host.sharing import fair_share, room
from sessions_app.models import Host, HostEvent, SessionEvent
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
@pytest.mark.timeout(240)
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
