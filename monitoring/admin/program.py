"""The supervised processes of every machine: what runs, how often it had to be started again."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin import display
from django.utils.translation import gettext_lazy as lazy

from monitoring.models import Program
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import moment


@admin.register(Program)
class ProgramAdmin(ReadOnlyAdmin):
    list_display = ["name", "machine", "state", "pid", "started", "restarts", "last_crash", "last_exit", "next_trial"]
    list_filter = ["state", "machine"]

    @display(description=lazy("started"), ordering="started_at")
    def started(self, program: Program) -> str:
        return moment(program.started_at) or "–"

    @display(description=lazy("last crash"), ordering="last_crash_at")
    def last_crash(self, program: Program) -> str:
        return moment(program.last_crash_at) or "–"

    @display(description=lazy("next trial"))
    def next_trial(self, program: Program) -> str:
        return moment(program.retry_at) or "–"
