"""Operations and how many of them failed: API requests, connection attempts, messages sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from messaging.models import Event, EventKind
from monitoring.measuring.moment import IDLE, Measured, Moment, Value, account_subject
from monitoring.models import RequestCount
from sessions_app.models import SessionEvent
from sessions_app.whatsapp.client import Kind

RATE_SPAN, FAILED_SPAN = timedelta(minutes=5), timedelta(minutes=60)
#: With fewer operations a rate says nothing.
ENOUGH = 20

#: How a connection attempt, of ours or of the library, ends badly.
FAILED_ATTEMPTS = (
    Kind.CONNECT_FAILED, Kind.CLIENT_DIED, Kind.CONNECT_TIMEOUT, Kind.GRACE_ENDED, Kind.BANNED, Kind.OUTDATED,
)  # fmt: skip
#: Failed requests to WhatsApp: the attempts, and a probe that got no answer.
FAILED_REQUESTS = (*FAILED_ATTEMPTS, Kind.PROBE_FAILED)


@dataclass
class Tally:
    """Operations of one subject."""

    all: int = 0
    failed: int = 0

    def add(self, every: int, failed: int) -> None:
        """Count some more."""
        self.all += every
        self.failed += failed

    @property
    def rate(self) -> Value:
        """Return the failed share in percent; IDLE while there are too few."""
        return 100 * self.failed / self.all if self.all >= ENOUGH else IDLE


def error_rate(moment: Moment) -> Measured:
    """Return the failed share of the last 5 minutes."""
    since = moment.now - RATE_SPAN
    return {subject: tally.rate for subject, tally in tallies(moment, since, FAILED_ATTEMPTS).items()}


def failed_requests(moment: Moment) -> Measured:
    """Return how many failed in the last 60 minutes."""
    since = moment.now - FAILED_SPAN
    return {subject: float(tally.failed) for subject, tally in tallies(moment, since, FAILED_REQUESTS).items()}


def tallies(moment: Moment, since: datetime, failing: Iterable[str]) -> dict[str, Tally]:
    """Return the operations since then, of the whole server and of each account of the moment."""
    total = {"": Tally(), **{account_subject(pk): Tally() for pk in moment.accounts}}
    api = RequestCount.objects.since(since).aggregate(all=Sum("count"), failed=Sum("errors"))
    total[""].add(api["all"] or 0, api["failed"] or 0)
    attempts = SessionEvent.objects.filter(at__gt=since, kind__in=[Kind.CONNECTED, *failing])
    _add(total, moment, attempts, "session__account", Kind.CONNECTED)
    ended = Event.objects.filter(at__gt=since, kind__in=[EventKind.SENT, EventKind.FAILED, EventKind.UNCERTAIN])
    _add(total, moment, ended, "account", EventKind.SENT)
    return total


def _add(total: dict[str, Tally], moment: Moment, events: QuerySet[Any], account: str, good: str) -> None:
    """Count `events`: of the `good` kind, or failed."""
    counts: dict[str, Any] = {"every": Count("pk"), "failed": Count("pk", filter=~Q(kind=good))}
    whole = events.aggregate(**counts)
    total[""].add(whole["every"], whole["failed"])
    if moment.accounts:
        mine: QuerySet[Any, Any] = events.filter(**{f"{account}__in": moment.accounts}).values(account)
        for row in mine.annotate(**counts).order_by():
            total[account_subject(row[account])].add(row["every"], row["failed"])
