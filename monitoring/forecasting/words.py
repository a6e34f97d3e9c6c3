"""What the forecast says, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.forecasting.learner import DROPS, HOURS, SESSION_HOURS, Finding
from monitoring.models import Forecast, ForecastRun

FINDINGS: dict[str, Any] = {
    Finding.GOOD: lazy(
        "Learnt from %(hours)d hours of the last %(days).0f days, %(drops)d of them with a lost connection. Of its "
        "warnings about past hours %(precision).0f %% were right, and it warned of %(recall).0f %% of the losses "
        "(“same as yesterday”: %(yesterday_precision).0f %% and %(yesterday_recall).0f %%)."),
    Finding.TOO_LITTLE: lazy(
        "There is too little data for a forecast: %(hours)d hours of connected sessions, %(drops)d of them with a lost "
        "connection. It takes %(enough_hours)d and %(enough_drops)d."),
    Finding.NO_BETTER: lazy(
        "The forecast is not good enough here to be shown: %(precision).0f %% of its warnings about past hours were "
        "right, and it warned of %(recall).0f %% of the losses (“same as yesterday”: %(yesterday_precision).0f %% and "
        "%(yesterday_recall).0f %%). Losses seem to come at random."),
    Finding.NO_LIBRARY: lazy(
        "The forecast needs the library river, which is not installed here: pip install -r requirements-forecast.txt."),
}  # fmt: skip


def _count(value: float) -> dict[str, float]:
    return {"n": round(math.expm1(value))}


def _share(value: float) -> dict[str, float]:
    return {"n": round(100 * value)}


#: Feature -> the sentence, and what fills it in.
REASONS: dict[str, tuple[Any, Callable[[float], dict[str, float]]]] = {
    "drops_hour": (lazy("connections lost in the last hour: %(n)d"), _count),
    "drops_six": (lazy("connections lost in the last 6 hours: %(n)d"), _count),
    "drops_day": (lazy("connections lost in the last 24 hours: %(n)d"), _count),
    "timeouts_hour": (lazy("missed keep-alives in the last hour: %(n)d"), _count),
    "timeouts_six": (lazy("missed keep-alives in the last 6 hours: %(n)d"), _count),
    "conflicts_day": (lazy("conflicts (440) in the last 24 hours: %(n)d"), _count),
    "refusals_day": (lazy("refused by WhatsApp in the last 24 hours: %(n)d"), _count),
    "habit": (lazy("at this hour it was lost on about %(n)d %% of earlier days"), _share),
    "yesterday": (lazy("it was lost at this hour yesterday"), _share),
    "rate": (lazy("it is lost in about %(n)d %% of its hours"), _share),
    "quiet": (lazy("last lost %(n)d hours ago"), _count),
    "morning": (lazy("more connections than usual are lost at this time of day"), _share),
    "midday": (lazy("more connections than usual are lost at this time of day"), _share),
}


def finding(run: ForecastRun | None) -> str:
    """Return what came of the last run."""
    if run is None:
        return _("There is no forecast for this hour: the hourly job forecast has not run, or did not end.")
    return str(FINDINGS[run.finding]) % {
        "hours": run.hours, "days": run.days, "drops": run.drops, "precision": 100 * run.precision,
        "recall": 100 * run.recall, "yesterday_precision": 100 * run.yesterday_precision,
        "yesterday_recall": 100 * run.yesterday_recall, "enough_hours": HOURS, "enough_drops": DROPS,
    }  # fmt: skip


def reasons(row: Forecast) -> list[str]:
    """Return why, the strongest first; each sentence once."""
    said = [str(REASONS[name][0]) % REASONS[name][1](value) for name, value in row.reasons if name in REASONS]
    return list(dict.fromkeys(said))


def risk(row: Forecast) -> str:
    """Return the risk in words."""
    if row.risk is None:
        return _("Not enough is known of this account yet: %(hours)d of %(enough)d hours.") % {
            "hours": row.hours, "enough": SESSION_HOURS}  # fmt: skip
    return _("Risk of losing the connection within the hour: %(risk)s (usual: %(usual)s).") % {
        "risk": _percent(row.risk), "usual": _percent(row.run.usual)}  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"
