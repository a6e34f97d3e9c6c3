"""health_rollup: every hour, turn readings into hours, hours into days, and forget what is old. Twice is harmless."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import F, FloatField, Max, Min, Model, QuerySet, Sum
from django.db.models.functions import Cast

from monitoring import histogram
from monitoring.models import HealthSample, Incident, RequestCount, Resolution, SlowQuery
from monitoring.models.request_count import Span
from monitoring.store import upsert

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Request counts by the hour, and slow statements, are kept so long.
REQUESTS, SLOW = timedelta(days=35), timedelta(days=7)
_CHUNK = 1000


def rollup(now: datetime) -> dict[str, int]:
    """Do all of it; return how much of each."""
    return {
        "hours": _summarise(now, Resolution.READING, Resolution.HOUR, HOUR, settings.HEALTH_DETAIL),
        "days": _summarise(now, Resolution.HOUR, Resolution.DAY, DAY, 4 * DAY),
        "request_hours": _summarise_requests(now),
        "deleted": prune(now),
    }


def _summarise(now: datetime, source: Resolution, target: Resolution, span: timedelta, back: timedelta) -> int:
    """Write the complete hours or days that are not there yet; return how many rows."""
    end = _floor(now, span)
    begin = _floor(end - back, span) + span  # of the first, readings may be gone already
    known = HealthSample.objects.filter(resolution=target, at__gte=begin).aggregate(last=Max("at"))["last"]
    written, start = 0, max(begin, known + span) if known else begin
    while start < end:
        rows = (
            HealthSample.objects.filter(resolution=source, at__gte=start, at__lt=start + span, count__gt=0)
            .values("metric", "subject").order_by()
            .annotate(total=Sum(Cast(F("value") * F("count"), FloatField())), low=Min("minimum"), high=Max("maximum"),
                      readings=Sum("count"))
        )  # fmt: skip
        samples = [
            HealthSample(metric=row["metric"], subject=row["subject"], resolution=target, at=start,
                         value=row["total"] / row["readings"], minimum=row["low"], maximum=row["high"],
                         count=row["readings"])
            for row in rows
        ]  # fmt: skip
        upsert(HealthSample, samples, HealthSample.KEY, HealthSample.VALUES)
        written += len(samples)
        start += span
    return written


def _summarise_requests(now: datetime) -> int:
    end = _floor(now, HOUR)
    known = RequestCount.objects.filter(span=Span.HOUR).aggregate(last=Max("at"))["last"]
    begin = max(known + HOUR, end - settings.HEALTH_DETAIL) if known else end - settings.HEALTH_DETAIL
    hours: dict[tuple[datetime, str], list[RequestCount]] = defaultdict(list)
    for row in RequestCount.objects.filter(span=Span.MINUTE, at__gte=begin, at__lt=end):
        hours[_floor(row.at, HOUR), row.route].append(row)
    counts = [
        RequestCount(at=at, span=Span.HOUR, route=route, count=sum(row.count for row in rows),
                     errors=sum(row.errors for row in rows), buckets=histogram.merged(row.buckets for row in rows))
        for (at, route), rows in hours.items()
    ]  # fmt: skip
    upsert(RequestCount, counts, RequestCount.KEY, RequestCount.VALUES)
    return len(counts)


def prune(now: datetime) -> int:
    """Delete what is older than its setting; return the number of rows."""
    samples, requests = HealthSample.objects, RequestCount.objects
    old: list[QuerySet[Model]] = [
        samples.filter(resolution=Resolution.READING, at__lt=now - settings.HEALTH_DETAIL),
        samples.filter(resolution=Resolution.HOUR, at__lt=now - settings.HEALTH_HOURLY),
        samples.filter(resolution=Resolution.DAY, at__lt=now - settings.HEALTH_DAILY),
        requests.filter(span=Span.MINUTE, at__lt=now - settings.HEALTH_DETAIL),
        requests.filter(span=Span.HOUR, at__lt=now - REQUESTS),
        SlowQuery.objects.filter(at__lt=now - SLOW),
        Incident.objects.filter(resolved_at__lt=now - settings.INCIDENT_RETENTION),
    ]
    return sum(_delete(rows) for rows in old)


def _delete(rows: QuerySet[Model]) -> int:
    """Delete in small transactions; return how many."""
    deleted = 0
    while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:_CHUNK]):
        rows.model._default_manager.filter(pk__in=pks).delete()
        deleted += len(pks)
    return deleted


def _floor(at: datetime, span: timedelta) -> datetime:
    seconds = span.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
