"""Hosts, events, commands, jobs and the retry policy in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.paginator import InfinitePaginator

from sessions_app import jobs, retry
from sessions_app.explanations import moment
from sessions_app.models import FleetCause, Host, HostEvent, Job, RetryRule, SessionCommand, SessionEvent
from sessions_app.models.retry_rule import apply_to_waiting
from sessions_app.timeline import line

#: Code of a retry rule -> what it stands for.
CAUSES = {
    retry.OTHER: lazy("lost connections, server errors and everything unknown"),
    retry.TIMEOUT: lazy("time-outs: connecting, logging in, no answer"),
    retry.REPLACED: lazy("another client uses the same keys"),
    retry.RESTART: lazy("WhatsApp asks for a restart; the library does it by itself"),
    retry.BANNED: lazy("banned for a time, where WhatsApp does not say until when"),
    retry.OUTDATED: lazy("WhatsApp no longer accepts this client version"),
}


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """To look at only: these rows are written by the server."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class HostEventInline(TabularInline):  # type: ignore[misc]
    model = HostEvent
    fields = readonly_fields = ["at", "kind", "actor", "reason"]
    extra = 0
    per_page = 20
    hide_title = True  # it would repeat time and kind

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ["name", "alive", "doing", "region", "machine", "sessions", "capacity", "rss_mb", "fds", "heartbeat"]
    list_filter = ["region", "machine", "draining"]
    fields = readonly_fields = [
        "name", "alive", "doing", "region", "machine", "pid", "version", "sessions", "capacity", "rss_mb", "fds",
        "started_at", "heartbeat", "ended_at",
    ]  # fmt: skip
    actions = ["restart", "drain", "undrain"]
    inlines = [HostEventInline]

    @display(description=lazy("running"), boolean=True)
    def alive(self, host: Host) -> bool:
        return host.is_live(timezone.now())

    @display(description=lazy("what it does"))
    def doing(self, host: Host) -> str:
        if host.restart_requested_at is not None and host.is_live(timezone.now()):
            return _("restarts, asked by %(by)s: %(why)s") % {
                "by": host.restart_requested_by, "why": host.restart_reason or "–"
            }  # fmt: skip
        return _("gives its sessions to hosts with room") if host.draining else _("takes sessions")

    @display(description=lazy("memory (MB)"))
    def rss_mb(self, host: Host) -> str:
        return f"{host.rss / 1e6:.0f}"

    @display(description=lazy("last heartbeat"))
    def heartbeat(self, host: Host) -> str:
        return moment(host.heartbeat_at)

    @action(description=lazy("Restart: hosts with room take its sessions"), permissions=["control"])
    def restart(self, request: HttpRequest, hosts: QuerySet[Host]) -> None:
        for host in hosts:
            if host.request_restart(request.user, _("asked for in the admin")):
                messages.success(request, _("%(host)s restarts within a few seconds.") % {"host": host})
            else:
                messages.warning(request, _("%(host)s does not run, or restarts already.") % {"host": host})

    @action(description=lazy("Drain: take no sessions, give away those it has"), permissions=["control"])
    def drain(self, request: HttpRequest, hosts: QuerySet[Host]) -> None:
        done = [str(host) for host in hosts if host.drain(request.user, _("asked for in the admin"))]
        messages.success(request, _("Giving their sessions away: %(hosts)s.") % {"hosts": ", ".join(done) or "–"})

    @action(description=lazy("Take part again"), permissions=["control"])
    def undrain(self, request: HttpRequest, hosts: QuerySet[Host]) -> None:
        done = [str(host) for host in hosts if host.undrain(request.user, _("asked for in the admin"))]
        messages.success(request, _("Taking sessions again: %(hosts)s.") % {"hosts": ", ".join(done) or "–"})

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sessions_app.change_host")


@admin.register(SessionEvent)
class SessionEventAdmin(ReadOnlyAdmin):
    list_display = ["when", "session", "happened"]
    list_filter = ["kind", "code", "host_name"]
    search_fields = ["session__account__label", "actor"]
    list_select_related = ["session__account"]
    show_full_result_count = False
    paginator = InfinitePaginator  # counting a million rows takes seconds on MariaDB

    @display(description=lazy("time"), ordering="at")
    def when(self, event: SessionEvent) -> str:
        return moment(event.at)

    @display(description=lazy("what happened"))
    def happened(self, event: SessionEvent) -> str:
        return line(event).text


@admin.register(FleetCause)
class FleetCauseAdmin(ReadOnlyAdmin):
    list_display = ["began_at", "cause", "affected", "trial", "trial_at", "ended_at", "outcome"]
    list_filter = ["code"]
    list_select_related = ["trial__account"]

    @display(description=lazy("code"), ordering="code")
    def cause(self, cause: FleetCause) -> str:
        return str(cause.code or _("no code"))


@admin.register(SessionCommand)
class SessionCommandAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "session", "verb", "requester", "finished_at", "error"]
    list_filter = ["verb"]
    list_select_related = ["session__account"]


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ["name", "purpose", "last_run", "took", "result", "late", "paused", "error"]
    actions = ["pause", "resume"]

    @display(description=lazy("what it does"))
    def purpose(self, job: Job) -> str:
        return str(jobs.JOBS[job.name].purpose) if job.name in jobs.JOBS else ""

    @display(description=lazy("last run"))
    def last_run(self, job: Job) -> str:
        return moment(job.last_run_at) or "–"

    @display(description=lazy("took"))
    def took(self, job: Job) -> str:
        return f"{job.duration.total_seconds():.2f} s" if job.duration else "–"

    @display(description=lazy("result"))
    def result(self, job: Job) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in job.counts.items()) or "–"

    @display(description=lazy("paused"))
    def paused(self, job: Job) -> str:
        return _("paused") if job.name in jobs.paused() else "–"

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
    list_display = ["__str__", "meaning", "first", "growth", "cap", "jitter"]

    @display(description=lazy("when"))
    def meaning(self, rule: RetryRule) -> str:
        return str(CAUSES.get(rule.code, ""))

    def save_model(self, request: HttpRequest, obj: RetryRule, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self._applied(request, obj.code)

    def delete_model(self, request: HttpRequest, obj: RetryRule) -> None:
        code = obj.code
        super().delete_model(request, obj)
        self._applied(request, code)

    def _applied(self, request: HttpRequest, code: int) -> None:
        if count := apply_to_waiting([code]):
            messages.info(request, _("Applied at once to %(count)d waiting sessions.") % {"count": count})
