"""The report's look ahead: where memory is heading, and how many more sessions fit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.measuring import memory
from monitoring.models import HealthSample, Resolution, Threshold
from monitoring.reporting.shape import CapacityPart, MemoryPart
from monitoring.trend import Finding, Trend, trend
from sessions_app.models import Host

METRIC = "memory_usage"
#: Without a threshold of its own, this much of the limit in percent.
_FULL = 100.0

_SENTENCES = {
    Finding.TOO_LITTLE: lazy("There is too little data to tell where memory is heading."),
    Finding.NONE: lazy("Memory is not rising."),
    Finding.FAR: lazy("Memory rises by %(per_hour).2f points an hour; the limit of %(limit)g %% is further away than "
                      "can be told from %(span)s."),
    Finding.NEAR: lazy("Memory rises by %(per_hour).2f points an hour and meets the limit of %(limit)g %% around "
                       "%(at)s (between %(earliest)s and %(latest)s, seen over %(span)s)."),
    Finding.BEYOND: lazy("Memory is beyond the limit of %(limit)g %%."),
}  # fmt: skip


def memory_readings(since: datetime, until: datetime) -> Sequence[tuple[datetime, float]]:
    """Return the readings, oldest first; means of hours where single readings are no longer kept."""
    fine = since >= until - settings.HEALTH_DETAIL
    samples = HealthSample.objects.series(METRIC, "", since, Resolution.READING if fine else Resolution.HOUR)
    return list(samples.filter(at__lte=until, count__gt=0).values_list("at", "value"))


def memory_limit() -> float:
    """Return the critical limit of memory in percent."""
    row = Threshold.objects.filter(metric=METRIC, account=None, enabled=True).first()
    return row.critical if row is not None else _FULL


def memory_part(since: datetime, until: datetime) -> MemoryPart:
    """Return how memory went and where it is heading."""
    readings, limit = memory_readings(since, until), memory_limit()
    found = trend(readings, limit, until)
    return {
        "first": _rounded(readings[0][1] if readings else None),
        "last": _rounded(readings[-1][1] if readings else None),
        "highest": _rounded(max((value for _at, value in readings), default=None)),
        "limit": limit, "finding": found.finding.value, "per_hour": _rounded(found.slope, 4),
        "confidence": _rounded(found.confidence, 4), "reached_at": _iso(found.at), "earliest": _iso(found.earliest),
        "latest": _iso(found.latest), "sentence": sentence(found, limit),
    }  # fmt: skip


def sentence(found: Trend, limit: float) -> str:
    """Return what a trend of memory says, in words."""
    return str(_SENTENCES[found.finding]) % {
        "per_hour": found.slope or 0, "limit": limit, "span": _span(found.span), "at": _moment(found.at),
        "earliest": _moment(found.earliest), "latest": _moment(found.latest) or _("later"),
    }  # fmt: skip


def capacity_part(now: datetime) -> CapacityPart:
    """Return how many more sessions fit, by the hosts' slots and by the memory left.

    A session is reckoned with the whole memory of the hosts divided by the sessions they run: with few sessions that is
    much too much, so the estimate errs towards too few.
    """
    hosts = list(Host.objects.live(now))
    sessions, slots = sum(host.sessions for host in hosts), sum(host.capacity for host in hosts)
    held = sum(host.rss for host in hosts)
    each = held // sessions if sessions and held else None
    newest = HealthSample.objects.filter(metric=METRIC, subject="", resolution=Resolution.READING, count__gt=0,
                                         at__gt=now - timedelta(minutes=10)).order_by("-at").first()  # fmt: skip
    by_memory = None
    if each and newest is not None:
        row = Threshold.objects.filter(metric=METRIC, account=None, enabled=True).first()
        room = ((row.warning if row else _FULL) - newest.value) / 100 * memory.limit()
        by_memory = max(0, int(room // each))
    by_slots = max(0, slots - sessions)
    more = min(by_slots, by_memory) if by_memory is not None else None
    limited = "unknown" if more is None else "memory" if by_memory is not None and by_memory < by_slots else "slots"
    return {
        "sessions": sessions, "slots": slots, "bytes_per_session": each, "more_by_slots": by_slots,
        "more_by_memory": by_memory, "more": more, "limited_by": limited,
        "sentence": _capacity_words(more, limited, by_slots),
    }  # fmt: skip


def _capacity_words(more: int | None, limited: str, by_slots: int) -> str:
    if more is None:
        return _("How many more sessions fit cannot be told yet: no session runs, or memory has not been measured. "
                 "There are %(slots)d free slots.") % {"slots": by_slots}  # fmt: skip
    if limited == "memory":
        return _("About %(more)d more sessions fit before memory reaches its warning limit.") % {"more": more}
    return _("%(more)d more sessions fit; then the hosts are full: raise HOSTS or HOST_CAPACITY.") % {"more": more}


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return _("%(hours).0f hours") % {"hours": hours} if hours < 72 else _("%(days).0f days") % {"days": hours / 24}


def _moment(at: datetime | None) -> str:
    return date_format(timezone.localtime(at), "j M Y, H:i") if at else ""


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
