"""The hourly job: has the forecast made by a process of its own. Where river is not installed it only says so."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec

from monitoring.forecasting.learner import Finding
from monitoring.models import ForecastRun
from monitoring.spawning import spawn


def forecast(now: datetime) -> dict[str, int]:
    """Return whether a process was started."""
    if find_spec("river") is None:
        ForecastRun.objects.create(at=now, finding=Finding.NO_LIBRARY)
        return {"started": 0}
    return {"started": int(spawn("forecast"))}
