"""How long API requests take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring import histogram
from monitoring.measuring.moment import IDLE, Measured, Moment
from monitoring.models import RequestCount

SPAN = timedelta(minutes=5)


@dataclass(frozen=True)
class Route:
    """One route's requests of a time: how many, failed ones, and durations in seconds."""

    route: str
    count: int
    errors: int
    p50: float
    p95: float


def response_time(moment: Moment) -> Measured:
    """Return p95 of the last 5 minutes in seconds."""
    histograms = RequestCount.objects.since(moment.now - SPAN).values_list("buckets", flat=True)
    p95 = histogram.quantile(histogram.merged(histograms), 0.95)
    return {"": IDLE if p95 is None else p95}


def routes(since: datetime) -> list[Route]:
    """Return the routes used since then, the slowest (p95) first."""
    counts: dict[str, tuple[int, int, list[dict[str, int]]]] = {}
    for row in RequestCount.objects.since(since):
        count, errors, histograms = counts.get(row.route, (0, 0, []))
        counts[row.route] = (count + row.count, errors + row.errors, [*histograms, row.buckets])
    found = []
    for name, (count, errors, histograms) in counts.items():
        merged = histogram.merged(histograms)
        p50, p95 = histogram.quantile(merged, 0.5), histogram.quantile(merged, 0.95)
        if p50 is not None and p95 is not None:
            found.append(Route(name, count, errors, p50, p95))
    return sorted(found, key=lambda route: -route.p95)
