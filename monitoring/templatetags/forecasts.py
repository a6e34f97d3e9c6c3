"""The forecast of one session, for the account's page."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import timezone

from monitoring.forecasting import words
from monitoring.forecasting.learner import Finding
from monitoring.models import ForecastRun
from sessions_app.models import Session

register = template.Library()


@register.inclusion_tag("monitoring/forecast_note.html")
def forecast_note(session: Session) -> dict[str, Any]:
    """Show the risk of a session with its reasons; nothing where there is no forecast of this hour."""
    run = ForecastRun.objects.current(timezone.now())
    if run is None or run.finding != Finding.GOOD:
        return {}
    row = run.forecasts.filter(session=session).select_related("run").first()
    return {"row": row, "risk": words.risk(row), "reasons": words.reasons(row)} if row is not None else {}
