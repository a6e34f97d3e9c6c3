"""The real system driven over each threshold: card, incident, action, alert, resolution."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F, Sum
from django.utils import timezone

from accounts.models import Account
from monitoring.cards import cards
from monitoring.measuring import memory
from monitoring.models import EntryKind, HealthSample, Incident, IncidentEntry, RequestCount
from sessions_app import jobs
from sessions_app.host.watchdog import EXIT_CODE
from sessions_app.models import HostEvent, Session, SessionEvent
from sessions_app.whatsapp.fake_store import FakeStore, Identity
from tests.installation import Installation, live_host, wait_for
from tests.wasim import Wasim

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def run(times: int) -> None:
    """Run the health job as the cluster does, 31 s apart: by moving what was written into the past."""
    for _time in range(times):
        later(31)
        jobs.run("health")


def later(seconds: float) -> None:
    """Let time pass without waiting for it."""
    span = timedelta(seconds=seconds)
    for model in (HealthSample, RequestCount, SessionEvent, IncidentEntry):
        model.objects.update(at=F("at") - span)  # type: ignore[attr-defined]
    Incident.objects.update(opened_at=F("opened_at") - span, last_breach_at=F("last_breach_at") - span)


def level(metric: str) -> str:
    """Return what the card of a metric says."""
    return next(card.level for card in cards(timezone.now()) if card.metric.name == metric)


def fetch(url: str) -> int:
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=60) as answer:
        return int(answer.status)
    return 500


def action(incident: Incident) -> dict[str, Any]:
    """Return what the incident's action found or did."""
    evidence: dict[str, Any] = incident.entries.filter(kind=EntryKind.ACTION).latest("id").evidence
    return evidence


def test_slow_and_failing_requests_and_a_broken_network_are_found_diagnosed_and_over_again(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment["DJANGO_SETTINGS_MODULE"] = "tests.health_settings"
    phones = [f"62812000008{n:02}" for n in range(4)]
    sessions = [installation.paired(f"account {phone[-2:]}", phone) for phone in phones]
    installation.start_host()
    address = installation.start_web()
    installation.until_all(sessions, "connected")
    run(1)
    assert level("response_time") == level("error_rate") == "idle"  # neither good nor bad
    assert level("failed_requests") == "ok"

    with ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(fetch, f"{address}/api/test/slow/55") for _n in range(25)]
        broken = [pool.submit(fetch, f"{address}/api/test/broken") for _n in range(45)]
        assert [future.result() for future in slow] == [200] * 25
        assert [future.result() for future in broken] == [500] * 45
    sim.faults.break_network("refused")
    for phone in phones:
        sim.faults.drop(phone)
    failed = SessionEvent.objects.filter(kind="connect_failed")
    wait_for(lambda: failed.values("session").distinct().count() == 4 and failed.count() >= 8, 60)
    wait_for(lambda: RequestCount.objects.aggregate(n=Sum("count"))["n"] == 70, 20)
    sim.faults.break_network("")

    run(2)
    for metric in ("response_time", "error_rate", "failed_requests"):
        assert level(metric) == "critical", metric
    found = {row.metric: row for row in Incident.objects.filter(severity="critical", subject_id="")}
    assert {"response_time", "error_rate", "failed_requests"} <= set(found)
    slowest = action(found["response_time"])["routes"][0]
    assert slowest["route"] == "GET /api/test/slow/<int:tenths>"
    assert slowest["p95"] >= 5.5
    assert slowest["requests"] == 25
    diagnosis = action(found["error_rate"])
    assert {row["account"] for row in diagnosis["accounts"]} == {session.account.label for session in sessions}
    assert diagnosis["codes"][0]["what"] == "connect_failed"
    assert diagnosis["routes"] == [{"route": "GET /api/test/broken", "failed": 45, "requests": 45}]
    assert any("broken on purpose" in line or "api/test/broken" in line for line in diagnosis["log"])
    assert found["failed_requests"].urgent

    installation.until_all(sessions, "connected")
    later(3700)
    run(3)
    assert level("response_time") == level("error_rate") == "idle"
    assert level("failed_requests") == "ok"
    for incident in found.values():
        incident.refresh_from_db()
        assert incident.state == "resolved"
        assert incident.entries.latest("id").kind == EntryKind.RESOLVED


def test_short_memory_restarts_the_largest_host_gracefully(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "VAR_DIR", tmp_path.resolve())
    installation.environment["WHATSAPP_CLIENT"] = "tests.hog.Hog"
    (tmp_path / "hog").touch()
    session = Account.objects.create(label="Front office", phone="6281200000990").session
    FakeStore(str(tmp_path / "devices" / "hog.json")).write(Identity.of("6281200000990", "Fake"))
    Session.objects.filter(pk=session.pk).update(store="hog.json", state="stopped", due_at=timezone.now())
    large = installation.start_host("host-1")
    small = installation.start_host("host-2", HOST_CAPACITY="0")
    installation.until(session, "connected")
    wait_for(lambda: (host := live_host()) is not None and host.rss > 300e6, 20)
    assert {process.pid for process in memory.processes()} == {large.pid, small.pid}
    used = sum(process.rss for process in memory.processes())
    monkeypatch.setattr(settings, "MEMORY_LIMIT", int(used / 0.97))
    (tmp_path / "hog").unlink()

    run(2)
    assert level("memory_usage") == "critical"
    incident = Incident.objects.get(metric="memory_usage")
    assert incident.severity == "critical"
    assert action(incident)["host"] == "host-1"
    assert HostEvent.objects.filter(host__name="host-1", kind=HostEvent.RESTART, actor="health").count() == 1
    wait_for(lambda: not large.running(), 40)  # it ends by itself, gracefully
    assert large.stop() == EXIT_CODE  # start me again
    run(2)
    assert incident.entries.filter(kind=EntryKind.ACTION).count() == 1  # at most once in ten minutes

    installation.start_host("host-1")  # as its supervisor would
    installation.until(session, "connected", 40)
    run(3)
    assert level("memory_usage") == "ok"
    incident.refresh_from_db()
    assert incident.state == "resolved"
    assert small.running()
