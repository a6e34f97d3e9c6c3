"""The real system driven over each threshold: card, incident, action, alert, resolution."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
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
from monitoring.measuring.operations import FAILED_REQUESTS
from monitoring.models import AlertChannel, EntryKind, HealthSample, Incident, IncidentEntry, RequestCount
from sessions_app import jobs
from sessions_app.host.watchdog import EXIT_CODE
from sessions_app.models import FleetCause, HostEvent, Session, SessionEvent
from sessions_app.whatsapp.fake_store import FakeStore, Identity
from tests.installation import Installation, live_host, wait_for
from tests.sinks import Sink, http_sink
from tests.wasim import Wasim

pytestmark = pytest.mark.real


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A local receiver that is told of everything."""
    with http_sink() as sink:
        AlertChannel.objects.create(name="Night phone", service="JSON", url=f"json://127.0.0.1:{sink.port}/x")
        yield sink


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
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=180) as answer:
        return int(answer.status)
    return 500


def told(installation: Installation, sink: Sink) -> str:
    """Have waiting alerts delivered by their own process; return all that was told so far."""
    deliver = installation.manage("deliver_alerts")
    assert deliver.returncode == 0, deliver.stderr
    return "\n".join(f"{message['title']}\n{message['message']}" for message in sink.received)


def action(incident: Incident) -> dict[str, Any]:
    """Return what the incident's action found or did."""
    evidence: dict[str, Any] = incident.entries.filter(kind=EntryKind.ACTION).latest("id").evidence
    return evidence


def test_slow_and_failing_requests_and_a_broken_network_are_found_diagnosed_and_over_again(
    installation: Installation, sim: Wasim, sink: Sink
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
        broken = [pool.submit(fetch, f"{address}/api/test/broken") for _n in range(55)]
        assert [future.result() for future in slow] == [200] * 25
        assert [future.result() for future in broken] == [500] * 55
    sim.faults.break_network("refused")
    for phone in phones:
        sim.faults.drop(phone)
    # The host sees one cause in it and holds all but one trial back, so each fails once or twice and no more.
    failed = SessionEvent.objects.filter(kind__in=FAILED_REQUESTS)
    wait_for(lambda: failed.values("session").distinct().count() == 4, 60)
    wait_for(lambda: FleetCause.objects.ongoing().exists(), 30)
    wait_for(lambda: RequestCount.objects.aggregate(n=Sum("count"))["n"] == 80, 20)

    run(2)
    sim.faults.break_network("")
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
    assert {row["what"] for row in diagnosis["codes"]} <= set(FAILED_REQUESTS)
    assert Incident.objects.get(metric="fleet").is_open
    assert diagnosis["routes"] == [{"route": "GET /api/test/broken", "failed": 55, "requests": 55}]
    assert any("broken on purpose" in line or "api/test/broken" in line for line in diagnosis["log"])
    assert found["failed_requests"].urgent
    text = told(installation, sink)
    for incident in found.values():
        assert incident.title in text

    installation.until_all(sessions, "connected")
    later(3700)
    run(3)
    assert level("response_time") == level("error_rate") == "idle"
    assert level("failed_requests") == "ok"
    for incident in found.values():
        incident.refresh_from_db()
        assert incident.state == "resolved"
        assert EntryKind.RESOLVED in incident.entries.values_list("kind", flat=True)
    heard = len(sink.received)
    assert "Resolved" in told(installation, sink)
    assert len(sink.received) > heard


def test_short_memory_restarts_the_largest_host_gracefully(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: Sink
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
    assert incident.title in told(installation, sink)
    assert incident.entries.filter(kind=EntryKind.ACTION).count() == 1  # at most once in ten minutes

    installation.start_host("host-1")  # as its supervisor would
    installation.until(session, "connected", 40)
    run(3)
    assert level("memory_usage") == "ok"
    incident.refresh_from_db()
    assert incident.state == "resolved"
    assert small.running()
