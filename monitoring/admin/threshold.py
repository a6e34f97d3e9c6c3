"""Thresholds in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin import display
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin

from monitoring.metrics import METRICS
from monitoring.models import Threshold


@admin.register(Threshold)
class ThresholdAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["__str__", "warning_shown", "critical_shown", "action", "enabled", "history"]
    list_filter = ["enabled"]
    list_select_related = ["account"]
    autocomplete_fields = ["account"]
    fields = ["metric", "account", "warning", "critical", "action", "enabled"]

    @display(description=lazy("warning"), ordering="warning")
    def warning_shown(self, row: Threshold) -> str:
        return METRICS[row.metric].limit(row.warning) if row.metric in METRICS else str(row.warning)

    @display(description=lazy("critical"), ordering="critical")
    def critical_shown(self, row: Threshold) -> str:
        return METRICS[row.metric].limit(row.critical) if row.metric in METRICS else str(row.critical)

    @display(description=lazy("history"))
    def history(self, row: Threshold) -> SafeString | str:
        if row.metric not in METRICS:
            return "–"
        url = reverse("admin:monitoring_metric", args=[row.metric])
        about = f"?subject=account:{row.account_id}" if row.account_id else ""
        return format_html('<a class="wa-back" href="{}{}">{}</a>', url, about, lazy("show"))
