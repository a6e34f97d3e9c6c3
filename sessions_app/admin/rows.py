"""Hosts, events, commands, jobs and the retry policy in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action

from sessions_app import jobs
from sessions_app.explanations import moment
from sessions_app.models import Host, Job, RetryRule, SessionCommand, SessionEvent


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """To look at only: these rows are written by the server."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ["name", "alive", "machine", "pid", "sessions", "capacity", "rss_mb", "fds", "heartbeat"]

    @display(description=lazy("running"), boolean=True)
    def alive(self, host: Host) -> bool:
        return host.is_live(timezone.now())

    @display(description=lazy("memory (MB)"))
    def rss_mb(self, host: Host) -> str:
        return f"{host.rss / 1e6:.0f}"

    @display(description=lazy("last heartbeat"))
    def heartbeat(self, host: Host) -> str:
        return moment(host.heartbeat_at)


@admin.register(SessionEvent)
class SessionEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "session", "kind", "actor", "host_name", "before", "after", "code", "reason"]
    list_filter = ["kind", "code", "host_name"]
    search_fields = ["session__account__label", "actor"]
    list_select_related = ["session__account"]
    show_full_result_count = False


@admin.register(SessionCommand)
class SessionCommandAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "session", "verb", "requester", "finished_at", "error"]
    list_filter = ["verb"]
    list_select_related = ["session__account"]


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ["name", "purpose", "last_run", "took", "counts", "late", "error"]
    actions = ["pause", "resume"]

    @display(description=lazy("what it does"))
    def purpose(self, job: Job) -> str:
        return jobs.JOBS[job.name].purpose if job.name in jobs.JOBS else ""

    @display(description=lazy("last run"))
    def last_run(self, job: Job) -> str:
        return moment(job.last_run_at) or "–"

    @display(description=lazy("took"))
    def took(self, job: Job) -> str:
        return f"{job.duration.total_seconds():.2f} s" if job.duration else "–"

    @display(description=lazy("on time"), boolean=True)
    def late(self, job: Job) -> bool:
        return job.name not in jobs.late(timezone.now())

    @action(description=lazy("Pause"), permissions=["change_job"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        for job in chosen:
            jobs.pause(job.name, True)

    @action(description=lazy("Resume"), permissions=["change_job"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        for job in chosen:
            jobs.pause(job.name, False)

    def has_change_job_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sessions_app.change_job")


@admin.register(RetryRule)
class RetryRuleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["__str__", "first", "growth", "cap", "jitter"]
