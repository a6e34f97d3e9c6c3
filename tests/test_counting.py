"""Requests and slow statements are counted in memory and written in batches."""

from __future__ import annotations

import math
import random
import statistics
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from monitoring import counting, histogram
from monitoring.counting import Counter
from monitoring.models import RequestCount, SlowQuery


def slow(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(status=503 if number == 7 else 200)


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken on purpose")


urlpatterns = [path("api/v1/things/<int:number>/", slow), path("api/v1/broken", broken), path("page/", slow)]


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    own = Counter()
    monkeypatch.setattr(counting, "counter", own)
    return own


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_requests_are_counted_by_route_and_not_by_address(counter: Counter) -> None:
    client = Client(raise_request_exception=False)
    for number in range(1, 9):
        client.get(f"/api/v1/things/{number}/")
    client.post("/api/v1/things/7/")
    assert client.get("/api/v1/broken").status_code == 500
    for word in ("a", "b", "c"):
        assert client.get(f"/api/{word}").status_code == 404
    client.get("/page/")
    counter.flush()
    rows = {row.route: (row.count, row.errors) for row in RequestCount.objects.all()}
    assert rows == {
        "GET /api/v1/things/<int:number>/": (8, 1), "POST /api/v1/things/<int:number>/": (1, 1),
        "GET /api/v1/broken": (1, 1), "(unknown address)": (3, 0),
    }  # fmt: skip


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
async def test_requests_are_counted_in_an_asynchronous_server_too(counter: Counter) -> None:
    answer = await AsyncClient().get("/api/v1/things/1/")
    assert answer.status_code == 200
    assert [key[1] for key in counter._requests] == ["GET /api/v1/things/<int:number>/"]


@pytest.mark.django_db
def test_a_thousand_requests_are_one_row(counter: Counter) -> None:
    for n in range(1000):
        counter.request("GET /api/x", n / 1000, failed=n % 10 == 0)
    with CaptureQueriesContext(connection) as queries:
        counter.flush()
    assert len(queries) <= 3
    row = RequestCount.objects.get()
    assert (row.count, row.errors, sum(row.buckets.values())) == (1000, 100, 1000)
    assert counter.flush() == 0


@pytest.mark.django_db
def test_the_row_of_a_minute_is_brought_up_to_date(counter: Counter) -> None:
    for _flush in range(3):
        counter.request("GET /api/x", 0.01, failed=False)
        counter.flush()
    assert RequestCount.objects.get().count == 3


@pytest.mark.django_db
def test_what_could_not_be_written_is_written_later(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    counter.request("GET /api/x", 0.01, failed=True)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("locked")

    with monkeypatch.context() as patch:
        patch.setattr("monitoring.store.upsert", refuse)
        with pytest.raises(DatabaseError):
            counter.flush()
    assert counter.flush() == 1
    assert RequestCount.objects.get().errors == 1


def test_counts_that_cannot_be_written_for_an_hour_are_given_up() -> None:
    time = [0.0]
    counter = Counter(clock=lambda: time[0])
    for minute in range(200):
        time[0] = minute * 60.0
        counter.request("GET /api/x", 0.01, failed=False)
    assert len(counter._requests) <= 62


@pytest.mark.django_db
def test_a_slow_statement_is_written_down_without_its_parameters(counter: Counter, settings: Any) -> None:
    settings.SLOW_QUERY = timedelta(0)
    assert not RequestCount.objects.filter(route="secret value").exists()
    settings.SLOW_QUERY = timedelta(seconds=60)
    counter.flush()
    row = SlowQuery.objects.get(statement__contains="monitoring_requestcount")
    assert "secret value" not in row.statement
    assert row.worst > 0


def test_quantiles_are_at_most_a_quarter_too_high() -> None:
    draw = random.Random(1)
    seconds = sorted(draw.lognormvariate(-2, 1.5) for _ in range(5000))
    counts: dict[str, int] = {}
    for one in seconds:
        number = str(histogram.bucket(one))
        counts[number] = counts.get(number, 0) + 1
    for share in (0.5, 0.95, 0.99):
        exact = statistics.quantiles(seconds, n=100)[round(share * 100) - 1]
        told = histogram.quantile(counts, share)
        assert told is not None
        assert exact * 0.99 <= told <= exact * 1.26


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.001, 0.0011, 0.5, 3.0, 5.0, 119.0, 1e9, math.inf])
def test_every_duration_has_a_bucket(seconds: float) -> None:
    number = histogram.bucket(min(seconds, 1e12))
    assert 0 <= number <= 53
    assert number in (0, 53) or histogram.edge(number - 1) < seconds <= histogram.edge(number) * (1 + 1e-9)


def test_no_requests_have_no_quantile() -> None:
    assert histogram.quantile({}, 0.95) is None
