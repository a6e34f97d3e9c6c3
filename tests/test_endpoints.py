"""/healthz, /readyz, /metrics: what they answer, to whom, and what they never tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import endpoints, readiness
from sessions_app import jobs
from sessions_app.models import Host

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready() -> None:
    """A live host and a live_back that just ran."""
    Host.objects.create(name="host-1", heartbeat_at=timezone.now())
    jobs.run("live_back")


def test_the_process_answers_without_asking_the_database(client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert not queries


def test_probes_are_answered_whatever_host_name_they_come_with(client: Client, ready: None) -> None:
    for address in ("/healthz", "/readyz"):
        assert client.get(address, HTTP_HOST="10.244.1.17:8000").status_code == 200
    assert client.get("/admin/login/", HTTP_HOST="10.244.1.17:8000").status_code == 400


def test_it_is_ready_when_every_check_is_good(client: Client, ready: None) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.content
    assert answer.json()["status"] == "ready"
    assert list(answer.json()["checks"]) == ["database", "channel_layer", "live_back", "hosts"]
    assert answer["Cache-Control"] == "no-store"


def test_nothing_is_ready_by_default(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["live_back"] == {
        "ok": False, "detail": "has never run: is the cluster (manage.py qcluster) running?"
    }  # fmt: skip
    assert checks["hosts"] == {"ok": False, "detail": "no session host is running"}
    assert checks["database"]["ok"]


def test_a_cluster_that_stopped_is_seen_and_can_be_excluded(client: Client, ready: None) -> None:
    later = timezone.now() + timedelta(seconds=91)
    with mock.patch("django.utils.timezone.now", return_value=later):
        checks = client.get("/readyz").json()["checks"]
        assert not checks["live_back"]["ok"]
        assert not checks["hosts"]["ok"]
        assert "last ran 91 s ago" in checks["live_back"]["detail"]
        assert client.get("/readyz?exclude=live_back&exclude=hosts").status_code == 200
    jobs.pause("live_back", True)
    assert "paused by staff" in client.get("/readyz").json()["checks"]["live_back"]["detail"]


def test_excluding_everything_or_the_unknown_is_not_ready(client: Client, ready: None) -> None:
    everything = "&".join(f"exclude={name}" for name in readiness.CHECKS)
    assert client.get(f"/readyz?{everything}").status_code == 503
    unknown = client.get("/readyz?exclude=databse")
    assert unknown.status_code == 400
    assert "There is no check “databse”" in unknown.json()["error"]


def test_a_database_that_is_gone_is_told_without_its_address(client: Client, ready: None) -> None:
    broken = OperationalError("(2003, \"Can't connect to server on 'db.internal' with password 'hunter2'\")")
    with mock.patch.object(connections["default"], "cursor", side_effect=broken):
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == {"ok": False, "detail": "does not answer (OperationalError)"}
    assert "hunter2" not in answer.content.decode()
    assert "db.internal" not in answer.content.decode()


def test_a_channel_layer_that_is_gone_is_seen(client: Client, ready: None) -> None:
    with mock.patch.object(readiness, "get_channel_layer", side_effect=ConnectionError("redis://:secret@10.0.0.1")):
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["channel_layer"]["detail"] == "does not answer (ConnectionError)"


@pytest.mark.django_db(transaction=True)
async def test_the_event_loop_answers_itself_and_leaves_the_rest_to_threads(async_client: AsyncClient) -> None:
    with mock.patch.object(endpoints, "sync_to_async", side_effect=AssertionError("a thread was asked for")):
        assert (await async_client.get("/healthz")).status_code == 200
    answer = await async_client.get("/readyz?exclude=live_back&exclude=hosts")
    assert answer.status_code == 200, answer.content
    assert (await async_client.get("/admin/login/")).status_code == 200


@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_only_reading_is_allowed(client: Client, address: str) -> None:
    assert client.post(address).status_code == 405
    assert client.head(address).status_code in (200, 503)


# -- /metrics


def test_metrics_are_for_this_machine(client: Client) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    for elsewhere in ({"REMOTE_ADDR": "192.0.2.7"}, {"REMOTE_ADDR": ""}, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
                      {"HTTP_FORWARDED": "for=192.0.2.7"}, {"HTTP_X_REAL_IP": "192.0.2.7"}):  # fmt: skip
        answer = client.get("/metrics", **elsewhere)  # type: ignore[arg-type]
        assert answer.status_code == 403, elsewhere
        assert "set METRICS_TOKEN" in answer.content.decode()


def test_behind_a_tls_proxy_the_token_is_needed(client: Client, settings: Any) -> None:
    settings.HTTPS = True
    assert client.get("/metrics").status_code == 403
    settings.METRICS_TOKEN = "let me in"
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer let me in").status_code == 200
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer let me out").status_code == 403
    assert client.get("/metrics", HTTP_AUTHORIZATION="let me in").status_code == 403


def test_without_a_token_an_empty_bearer_opens_nothing(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    answer = client.get("/metrics", REMOTE_ADDR="192.0.2.7", HTTP_AUTHORIZATION="Bearer ")
    assert answer.status_code == 403


def test_metrics_without_a_database_are_an_error_not_zeroes(rf: RequestFactory) -> None:
    from monitoring import prometheus

    with mock.patch.object(prometheus, "exposition", side_effect=OperationalError("at db.internal")):
        answer = endpoints.metrics(rf.get("/metrics"))
    assert answer.status_code == 503
    assert "db.internal" not in answer.content.decode()
