"""The report as a page of the admin, and as a file from there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.reporting.render import FORMATS, context
from monitoring.reporting.report import report

PERMISSION = "monitoring.view_healthsample"

#: What can be chosen. More than a week is the command's: with many accounts it takes longer than a page may.
SPANS: dict[str, tuple[timedelta, Any]] = {
    "24h": (timedelta(hours=24), lazy("24 hours")),
    "7d": (timedelta(days=7), lazy("7 days")),
}
_FILES = {"html": "text/html", "csv": "text/csv", "json": "application/json", "text": "text/plain"}


def report_view(request: HttpRequest) -> HttpResponse:
    """Show how the server did. An unknown choice is the first one."""
    if not (request.user.is_authenticated and request.user.has_perm(PERMISSION)):
        raise PermissionDenied
    chosen = request.GET.get("since", "24h")
    chosen = chosen if chosen in SPANS else "24h"
    now = timezone.now()
    found = report(now - SPANS[chosen][0], now)
    wanted = request.GET.get("format", "")
    if wanted in FORMATS:
        ending = "txt" if wanted == "text" else wanted
        return HttpResponse(
            FORMATS[wanted](found), content_type=f"{_FILES[wanted]}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="waserver-{now:%Y-%m-%d}-{chosen}.{ending}"'},
        )  # fmt: skip
    return TemplateResponse(request, "monitoring/report.html", {
        **admin.site.each_context(request), **context(found), "title": _("Report"), "chosen": chosen,
        "spans": [(key, label) for key, (_span, label) in SPANS.items()], "formats": list(_FILES),
    })  # fmt: skip
