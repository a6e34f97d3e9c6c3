"""Helpers of the health tests: readings over time without waiting, incidents in short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.utils import timezone

from monitoring import health
from monitoring.measuring.moment import Measured
from monitoring.metrics import Metric
from monitoring.models import Incident

INTERVAL = timedelta(seconds=30)


class Clock:
    """The time of the runs, which goes on by 30 s with each."""

    def __init__(self) -> None:
        self.now = timezone.now().replace(second=15, microsecond=0)

    def run(self, times: int = 1) -> None:
        """Run the job that often."""
        for _time in range(times):
            self.now += INTERVAL
            health.health(self.now)


@contextmanager
def measured(monkeypatch: Any, **values: Any) -> Iterator[dict[str, Any]]:
    """Have metrics measure what the yielded mapping says; the others measure nothing."""
    told: dict[str, Any] = dict(values)

    def measure(metric: Metric, moment: Any) -> Measured:
        value = told.get(metric.name)
        if isinstance(value, Mapping):
            return value
        return {"": value} if metric.name in told else {}

    with monkeypatch.context() as patch:
        patch.setattr(health, "measure", measure)
        yield told


def unresolved() -> dict[str, str]:
    """Return metric -> severity of what is open."""
    return dict(Incident.objects.unresolved().values_list("metric", "severity"))


def kinds(incident: Incident) -> list[str]:
    """Return the timeline in short."""
    return list(incident.entries.order_by("id").values_list("kind", flat=True))


