"""The admin's sidebar: which page stands in which group. A table; tests/test_navigation.py proves it complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as lazy


@dataclass(frozen=True)
class Entry:
    """One line: a model's list (as app.model), or a page of ours by its URL name, with a title and a permission."""

    where: str
    icon: str  # of Material Symbols
    title: Any = ""  # default: the model's plural name
    permission: str = ""  # default for a model: may view or change it; for a page: any staff

    @property
    def is_page(self) -> bool:
        """Return whether it names a URL and no model."""
        return ":" in self.where

    def shown(self, request: HttpRequest) -> dict[str, Any]:
        """Return it in unfold's terms."""
        if self.is_page:
            link, title = reverse(self.where), self.title
        else:
            model = apps.get_model(self.where)
            link = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            title = self.title or capfirst(str(model._meta.verbose_name_plural))
        return {"title": title, "icon": self.icon, "link": link, "permission": self.allows}

    def allows(self, request: HttpRequest) -> bool:
        """Return whether this user may open it."""
        if self.permission:
            return request.user.has_perm(self.permission)
        if self.is_page:
            return True
        return bool(admin.site.get_model_admin(apps.get_model(self.where)).has_view_or_change_permission(request))


#: Group -> its lines, in the order shown. A group whose lines are all refused is hidden.
GROUPS: Sequence[tuple[Any, Sequence[Entry]]] = (
    ("", (Entry("admin:index", "home", lazy("Overview")),)),
    (lazy("Accounts"), (
        Entry("accounts.account", "smartphone"),
    )),
    (lazy("Sessions"), (
        Entry("sessions_app.sessionevent", "history"),
        Entry("sessions_app.sessioncommand", "rule"),
        Entry("sessions_app.host", "dns"),
        Entry("monitoring.program", "memory"),
        Entry("sessions_app.fleetcause", "hub"),
    )),
    (lazy("Health"), (
        Entry("monitoring.incident", "warning"),
        Entry("monitoring.threshold", "tune"),
        Entry("health:report", "monitoring", lazy("Report"), "monitoring.view_healthsample"),
        Entry("health:forecast", "online_prediction", lazy("Early warning"), "monitoring.view_healthsample"),
        Entry("monitoring.alertchannel", "notifications_active"),
        Entry("monitoring.alertdelivery", "outgoing_mail"),
    )),
    (lazy("Messages"), (
        Entry("messaging.chat", "forum"),
        Entry("messaging.message", "chat"),
        Entry("messaging.bulk", "campaign"),
        Entry("messaging.autoreply", "quickreply"),
        Entry("messaging.pacingrule", "speed"),
        Entry("messaging.contactpause", "pause_circle"),
    )),
    (lazy("API and webhooks"), (
        Entry("accounts.apikey", "key"),
        Entry("messaging.webhookendpoint", "webhook"),
        Entry("messaging.delivery", "outbox"),
        Entry("messaging.event", "list_alt"),
    )),
    (lazy("Jobs and policy"), (
        Entry("sessions_app.retryrule", "update"),
        Entry("sessions_app.job", "event_repeat"),
        Entry("django_q.schedule", "schedule", lazy("Scheduled tasks")),
        Entry("django_q.ormq", "pending_actions", lazy("Queued tasks")),
        Entry("django_q.success", "task_alt", lazy("Successful tasks")),
        Entry("django_q.failure", "error", lazy("Failed tasks")),
    )),
    (lazy("Users"), (
        Entry("auth.user", "person"),
        Entry("auth.group", "group"),
        Entry("auditlog.logentry", "manage_search", lazy("Changes by staff")),
        Entry("axes.accessattempt", "gpp_bad", lazy("Failed log-ins")),
        Entry("otp_totp.totpdevice", "phonelink_lock", lazy("Two-factor devices")),
    )),
)  # fmt: skip


def stylesheet(request: HttpRequest) -> str:
    """Return the address of what we add to unfold's look (settings, UNFOLD)."""
    return static("waserver/admin.css")


def colours(request: HttpRequest) -> str:
    """Return the address of unfold's palette as a file: as a <style> in the page the content policy would refuse it."""
    return static("waserver/colours.css")


def script(request: HttpRequest) -> str:
    """Return the address of what makes unfold's scripts keep to the content policy."""
    return static("waserver/policy.js")


def labels(request: HttpRequest) -> str:
    """Return the address of what gives unfold's choosers a name for screen readers."""
    return static("waserver/labels.js")


def no_inline_colours(request: HttpRequest) -> dict[str, dict[str, str]]:
    """Return nothing for unfold to write into the page."""
    return {}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups for unfold's sidebar (settings, UNFOLD)."""
    return [{"title": title, "items": [entry.shown(request) for entry in entries]} for title, entries in GROUPS]
