"""The report's numbers of traffic: API requests, operations that failed, the hours with most to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Count, Max, Q
from django.db.models.functions import TruncHour

from messaging.models import Event, EventKind
from monitoring import histogram
from monitoring.measuring.operations import FAILED_ATTEMPTS
from monitoring.models import RequestCount
from monitoring.models.request_count import Span
from monitoring.reporting.shape import HourPart, OperationPart, RequestPart, RoutePart
from sessions_app.models import SessionEvent
from sessions_app.whatsapp.client import Kind

#: So many routes and hours are named.
SLOWEST = BUSIEST = 5
HOUR = timedelta(hours=1)
_MESSAGES = (EventKind.SENT, EventKind.FAILED, EventKind.UNCERTAIN, EventKind.RECEIVED)


class Traffic:
    """The request counts of a stretch of time, read once."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self.routes: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # requests, errors
        self.hours: Counter[datetime] = Counter()
        self._buckets: dict[str, dict[str, int]] = {}
        for at, route, count, errors, buckets in _rows(since, until):
            self.routes[route][0] += count
            self.routes[route][1] += errors
            self.hours[at.replace(minute=0, second=0, microsecond=0)] += count
            self._buckets[route] = histogram.merged([self._buckets.get(route, {}), buckets])

    @property
    def count(self) -> int:
        """Return the number of requests."""
        return sum(count for count, _ in self.routes.values())

    @property
    def errors(self) -> int:
        """Return the number of server errors."""
        return sum(errors for _, errors in self.routes.values())

    def part(self) -> RequestPart:
        """Return it as the report has it."""
        every = histogram.merged(self._buckets.values())
        by_p95 = sorted(self.routes, key=lambda route: -(histogram.quantile(self._buckets[route], 0.95) or 0))
        slowest: list[RoutePart] = [
            {"route": route, "count": self.routes[route][0], "errors": self.routes[route][1],
             "p95": _time(self._buckets[route], 0.95)}
            for route in by_p95[:SLOWEST]
        ]  # fmt: skip
        return {
            "count": self.count, "errors": self.errors, "p50": _time(every, 0.5), "p95": _time(every, 0.95),
            "p99": _time(every, 0.99), "slowest": slowest,
        }  # fmt: skip


def _rows(since: datetime, until: datetime) -> Iterator[tuple[datetime, str, int, int, dict[str, int]]]:
    """Yield minutes; and hours where minutes are no longer kept."""
    fields = ("at", "route", "count", "errors", "buckets")
    if since < until - settings.HEALTH_DETAIL:
        last = RequestCount.objects.filter(span=Span.HOUR).aggregate(last=Max("at"))["last"]
        hours = RequestCount.objects.filter(span=Span.HOUR, at__gte=since, at__lte=until)
        yield from hours.values_list(*fields).iterator()
        since = max(since, last + HOUR) if last else since
    yield from RequestCount.objects.since(since).filter(at__lte=until).values_list(*fields).iterator()


def operations_part(since: datetime, until: datetime, traffic: Traffic) -> OperationPart:
    """Return how many operations there were and failed: requests, connection attempts, messages handed over."""
    attempts = SessionEvent.objects.filter(at__gt=since, at__lte=until, kind__in=[Kind.CONNECTED, *FAILED_ATTEMPTS])
    tried = attempts.aggregate(all=Count("pk"), failed=Count("pk", filter=~Q(kind=Kind.CONNECTED)))
    ended = Event.objects.filter(
        at__gt=since, at__lte=until, kind__in=[EventKind.SENT, EventKind.FAILED, EventKind.UNCERTAIN]
    )
    sent = ended.aggregate(all=Count("pk"), failed=Count("pk", filter=~Q(kind=EventKind.SENT)))
    count = traffic.count + tried["all"] + sent["all"]
    failed = traffic.errors + tried["failed"] + sent["failed"]
    return {"count": count, "failed": failed, "error_rate": round(failed / count, 6) if count else None}


def hours_part(since: datetime, until: datetime, traffic: Traffic, lost: Counter[datetime]) -> list[HourPart]:
    """Return every hour of the stretch, oldest first."""
    said = Event.objects.filter(at__gt=since, at__lte=until, kind__in=_MESSAGES)
    by_hour = said.annotate(hour=TruncHour("at", tzinfo=UTC)).values_list("hour").annotate(n=Count("pk"))
    messages = dict(by_hour.order_by("hour"))
    hours: list[HourPart] = []
    at = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while at <= until:
        hours.append({"at": at.isoformat(), "requests": traffic.hours[at], "messages": messages.get(at, 0),
                      "losses": lost[at]})  # fmt: skip
        at += HOUR
    return hours


def busiest(hours: list[HourPart]) -> list[HourPart]:
    """Return the hours with most requests and messages, busiest first; none of those with nothing."""
    active = [hour for hour in hours if hour["requests"] + hour["messages"]]
    return sorted(active, key=lambda hour: (-(hour["requests"] + hour["messages"]), hour["at"]))[:BUSIEST]


def _time(buckets: dict[str, int], share: float) -> float | None:
    value = histogram.quantile(buckets, share)
    return None if value is None else round(value, 4)
