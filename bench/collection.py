"""What health costs: microseconds per API request, rows and megabytes per year, seconds per run of the job.

The year is made, not waited for: the rows that are there when all retention times have filled up, for the given
number of accounts and routes, and the file's size before and after.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stage import Stage, arguments


def request_cost(requests: int) -> dict[str, float]:
    """Return the cost of counting, against the shortest request the API can have: one that does nothing."""
    from django.http import HttpRequest, HttpResponse
    from django.test import Client, override_settings
    from django.urls import ResolverMatch, path

    from monitoring.middleware import count_requests

    def nothing(request: HttpRequest, number: int) -> HttpResponse:
        return HttpResponse()

    class Addresses:
        urlpatterns = [path("api/v1/nothing/<int:number>", nothing)]

    # The middleware around nothing, and nothing: the difference is what counting costs.
    request, answer = HttpRequest(), HttpResponse()
    request.method, request.path_info = "GET", "/api/v1/nothing/1"
    request.resolver_match = ResolverMatch(nothing, (), {}, route="api/v1/nothing/<int:number>")
    costs = []
    for get_response in (count_requests(lambda request: answer), lambda request: answer):
        began = time.perf_counter()
        for _n in range(requests * 20):
            get_response(request)
        costs.append((time.perf_counter() - began) / (requests * 20))
    counted = costs[0] - costs[1]
    with override_settings(ROOT_URLCONF=Addresses):
        client = Client(SERVER_NAME="localhost")
        assert client.get("/api/v1/nothing/1").status_code == 200
        for _warm in range(50):
            client.get("/api/v1/nothing/1")
        took = []
        for n in range(requests):
            began = time.perf_counter()
            client.get(f"/api/v1/nothing/{n}")
            took.append(time.perf_counter() - began)
    whole = statistics.median(took)
    return {"counting_us": round(counted * 1e6, 2), "empty_request_us": round(whole * 1e6, 1),
            "share_of_empty_request_percent": round(100 * counted / whole, 3),
            "share_of_20_ms_request_percent": round(100 * counted / 0.02, 4)}  # fmt: skip


def fill(accounts: int, routes: int) -> int:
    """Write the rows of a system that has run for a year; return how many."""
    from django.conf import settings
    from django.utils import timezone

    from monitoring.histogram import bucket
    from monitoring.metrics import METRICS
    from monitoring.models import HealthSample, Incident, RequestCount, Resolution, Severity
    from monitoring.models.request_count import Span
    from monitoring.rollup import REQUESTS

    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    overrides = accounts // 10  # accounts with a threshold of their own, for both metrics that allow it
    subjects = [(name, "") for name in METRICS] + [
        (name, f"account:{n}") for name in METRICS if METRICS[name].per_account for n in range(overrides)
    ]
    rows = 0
    for resolution, step, kept in (
        (Resolution.READING, timedelta(seconds=30), settings.HEALTH_DETAIL),
        (Resolution.HOUR, timedelta(hours=1), min(settings.HEALTH_HOURLY, timedelta(days=365))),
        (Resolution.DAY, timedelta(days=1), timedelta(days=365)),
    ):
        times = [now - step * n for n in range(int(kept / step))]
        for name, subject in subjects:
            HealthSample.objects.bulk_create(
                (HealthSample(metric=name, subject=subject, resolution=resolution, at=at, value=42.123, minimum=41.5,
                              maximum=43.75, count=120) for at in times), batch_size=2000,
            )  # fmt: skip
            rows += len(times)
    buckets = {str(bucket(0.001 * 1.6**n)): n + 3 for n in range(8)}
    for span, step, kept, process in (
        (Span.MINUTE, timedelta(minutes=1), settings.HEALTH_DETAIL, "machine-name-here:12345:abc123"),
        (Span.HOUR, timedelta(hours=1), REQUESTS, ""),
    ):
        times = [now - step * n for n in range(int(kept / step))]
        for n in range(routes):
            RequestCount.objects.bulk_create(
                (RequestCount(at=at, span=span, route=f"POST /api/v1/accounts/<int:pk>/resource-{n}/", process=process,
                              count=120, errors=1, buckets=buckets) for at in times), batch_size=2000,
            )  # fmt: skip
            rows += len(times)
    for n in range(2000):  # five incidents a day
        incident, _change = Incident.open("logged_out", "account", str(n), "An account", "An account is logged out",
                                          Severity.CRITICAL, now, {"state": "logged_out", "code": 401})  # fmt: skip
        incident.end(now + timedelta(minutes=20), "Over.")
        rows += 3
    return rows


def size() -> float:
    """Return the size of the database's tables in MB."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size / 1e6 FROM pragma_page_count(), pragma_page_size()")
        else:
            cursor.execute("ANALYZE TABLE monitoring_healthsample, monitoring_requestcount")
            cursor.fetchall()
            cursor.execute("SELECT SUM(data_length + index_length) / 1e6 FROM information_schema.tables "
                           "WHERE table_schema = DATABASE()")  # fmt: skip
        return float(cursor.fetchone()[0])


def job_seconds(accounts: int) -> dict[str, float]:
    """Return how long the job takes with so many accounts, and how many rows it writes."""
    from django.utils import timezone

    from accounts.models import Account
    from monitoring.health import health
    from monitoring.models import HealthSample
    from sessions_app.models import Session

    Account.objects.bulk_create(Account(label=f"account {n}") for n in range(accounts))
    Session.objects.bulk_create(Session(account=account, state="connected") for account in Account.objects.all())
    took = []
    now = timezone.now()
    before = HealthSample.objects.count()
    for n in range(5):
        began = time.perf_counter()
        health(now + timedelta(seconds=30 * n))
        took.append(time.perf_counter() - began)
    return {"job_seconds": round(statistics.median(took), 3),
            "rows_per_run": round((HealthSample.objects.count() - before) / 5, 1)}  # fmt: skip


def main() -> None:
    options = arguments("What health costs per request, per run and per year.")
    options.add_argument("--accounts", type=int, default=100, help="accounts; each tenth has thresholds of its own")
    options.add_argument("--routes", type=int, default=20, help="API routes that are used in every minute")
    options.add_argument("--requests", type=int, default=2000, help="requests measured")
    chosen = options.parse_args()
    with Stage(chosen, COLLECT_INTERVAL="0") as stage:
        stage.progress("requests")
        cost = request_cost(chosen.requests)
        job = job_seconds(chosen.accounts)
        stage.progress("a year of rows")
        before = size()
        rows = fill(chosen.accounts, chosen.routes)
        stage.tell(database=stage.database, **cost, **job, accounts=chosen.accounts, routes=chosen.routes, rows=rows,
                   megabytes_after_a_year=round(size() - before, 1))  # fmt: skip


if __name__ == "__main__":
    main()
