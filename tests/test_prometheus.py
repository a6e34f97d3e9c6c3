"""The numbers for Prometheus: read from rows, listed in docs/metrics.md, used by the example rules."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import Account
from monitoring.models import HealthSample, Incident, RequestCount, Severity, Threshold
from monitoring.prometheus import FAMILIES, exposition
from sessions_app import jobs
from sessions_app.models import Host, Job, Session, SessionEvent

pytestmark = pytest.mark.django_db


def scraped(now: datetime) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return name -> labels -> value, as Prometheus' own parser reads it."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(exposition(now).decode()):
        found[family.name] = {tuple(sorted(sample.labels.items())): sample.value for sample in family.samples}
    return found


def value(found: Any, name: str, **labels: str) -> float | None:
    return found[name].get(tuple(sorted(labels.items())))  # type: ignore[no-any-return]


def test_the_documented_list_is_what_is_told() -> None:
    text = (settings.BASE_DIR / "docs" / "metrics.md").read_text()
    listed = re.findall(r"^\| `(waserver_\w+)` \| (.*) \| (.*) \|$", text, re.M)
    told = [(f.name, ", ".join(f"`{label}`" for label in f.labels) or "–", f.meaning) for f in FAMILIES]
    assert listed == told
    assert list(scraped(timezone.now())) == [f.name for f in FAMILIES]


def test_the_numbers_are_those_of_the_rows() -> None:
    now = timezone.now()
    Host.objects.create(name="up", heartbeat_at=now, sessions=3, capacity=50, rss=10**8, fds=40, region="Jakarta")
    Host.objects.create(name="silent", heartbeat_at=now - timedelta(minutes=5))
    Host.objects.create(name="ended", heartbeat_at=now, ended_at=now)
    for number, (state, hold) in enumerate([("connected", ""), ("connected", ""), ("stopped", "conflict")]):
        session = Account.objects.create(label=f"account {number}").session
        Session.objects.filter(pk=session.pk).update(state=state, hold=hold)
        SessionEvent.objects.create(session=session, at=now - timedelta(minutes=number * 50), kind="replaced",
                                    before="connected", after="waiting", code=440)  # fmt: skip
    Account.objects.filter(label="account 2").update(desired="offline")
    RequestCount.objects.create(at=now - timedelta(minutes=1), route="GET /x", count=20, errors=2)
    RequestCount.objects.create(at=now - timedelta(minutes=9), route="GET /x", count=70, errors=7)
    for seconds, reading in ((60, 40.0), (20, 42.5)):
        HealthSample.objects.create(metric="memory_usage", at=now - timedelta(seconds=seconds), value=reading,
                                    minimum=reading, maximum=reading)  # fmt: skip
    HealthSample.objects.create(metric="error_rate", at=now - timedelta(minutes=3), value=1, minimum=1, maximum=1)
    Incident.open("memory_usage", "system", "", "", "Memory", Severity.CRITICAL, now, {})
    jobs.run("live_back")
    Job.objects.filter(name="cleanup").update(last_run_at=now - timedelta(hours=1))

    found = scraped(timezone.now())
    assert value(found, "waserver_sessions", state="connected") == 2
    assert value(found, "waserver_sessions", state="banned") == 0
    assert value(found, "waserver_sessions_wanted") == 2
    assert value(found, "waserver_sessions_held") == 1
    assert value(found, "waserver_connections_lost", code="440") == 2
    assert found["waserver_host_up"] == {(("host", "silent"),): 0, (("host", "up"),): 1}
    assert value(found, "waserver_host_memory_bytes", host="up") == 10**8
    assert value(found, "waserver_host_info", host="up", machine="", region="Jakarta") == 1
    assert value(found, "waserver_api_requests") == 20
    assert value(found, "waserver_api_errors") == 2
    assert value(found, "waserver_health", metric="memory_usage", subject="") == 42.5
    assert value(found, "waserver_health", metric="error_rate", subject="") is None  # old: unknown
    assert value(found, "waserver_health_limit", metric="memory_usage", severity="critical") == 95
    assert value(found, "waserver_incidents", severity="critical", state="open") == 1
    assert value(found, "waserver_incidents", severity="warning", state="open") == 0
    assert value(found, "waserver_job_failed", job="live_back") == 0
    assert value(found, "waserver_job_late", job="cleanup") == 1


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            exposition(timezone.now())
        return len(seen)

    few = queries()
    for number in range(20):
        Account.objects.create(label=str(number))
        Host.objects.create(name=str(number), heartbeat_at=timezone.now())
    assert queries() == few <= 20


def test_no_name_number_or_secret_of_an_account_is_told() -> None:
    Account.objects.create(label="Front office", phone="6281200000001", proxy="http://user:hidden@proxy.example:1")
    text = exposition(timezone.now()).decode()
    assert not re.search(r"Front office|6281200000001|hidden", text)


def test_the_example_rules_are_well_formed_and_use_only_what_there_is() -> None:
    rules = yaml.safe_load((settings.BASE_DIR / "deploy" / "prometheus-alerts.yml").read_text())["groups"][0]["rules"]
    names = {family.name for family in FAMILIES}
    assert len(rules) >= 5
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule)
        assert rule["labels"]["severity"] in Severity.values
        assert set(re.findall(r"waserver_\w+", rule["expr"])) <= names, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["annotations"]["action"]
    limited = set(Threshold.objects.filter(account=None).values_list("metric", flat=True))
    metrics = set(re.findall(r'metric="(\w+)"', " ".join(rule["expr"] for rule in rules)))
    assert metrics <= limited
