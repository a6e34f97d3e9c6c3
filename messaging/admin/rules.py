"""Pacing and automatic replies."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import ModelAdmin

from messaging.models import AutoReply, PacingRule


@admin.register(PacingRule)
class PacingRuleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "account", "enabled", "per_minute", "gap", "daily_cap", "quiet_from", "quiet_until", "warm_up", "typing",
    ]  # fmt: skip
    list_select_related = ["account"]
    autocomplete_fields = ["account"]


@admin.register(AutoReply)
class AutoReplyAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["keyword", "account", "match", "enabled", "reply"]
    list_filter = ["enabled", "account"]
    search_fields = ["keyword", "reply"]
    list_select_related = ["account"]
    autocomplete_fields = ["account"]
