"""Early warning as a page of the admin: memory, and the sessions most at risk."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.admin.report import PERMISSION
from monitoring.forecasting import words
from monitoring.forecasting.learner import Finding
from monitoring.models import ForecastRun
from monitoring.reporting.outlook import memory_part
from monitoring.reporting.render import percent
from sessions_app.explanations import moment

#: So many sessions are listed, those most at risk first.
LISTED = 50


def forecast_view(request: HttpRequest) -> HttpResponse:
    """Show what is to be expected, and how far that is to be trusted."""
    if not (request.user.is_authenticated and request.user.has_perm(PERMISSION)):
        raise PermissionDenied
    now = timezone.now()
    run = ForecastRun.objects.current(now)
    good = run is not None and run.finding == Finding.GOOD
    rows = run.forecasts.filter(risk__isnull=False).select_related("session__account", "run") if run and good else []
    memory = memory_part(now - timedelta(hours=24), now)
    last = run or ForecastRun.objects.filter(at__lte=now).first()
    return TemplateResponse(request, "monitoring/forecast.html", {
        **admin.site.each_context(request), "title": _("Early warning"), "finding": words.finding(run), "good": good,
        "at": moment(last.at) if last else "", "memory": memory,
        "sure": percent(min(memory["confidence"] or 0, 0.9999)),
        "rows": [
            {"account": row.session.account, "risk": f"{100 * (row.risk or 0):.0f} %", "high": row.high,
             "reasons": words.reasons(row)}
            for row in list(rows)[:LISTED]
        ],
    })  # fmt: skip
