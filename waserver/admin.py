"""The admin of Django's and django-q2's own models, in the look of the rest."""

from typing import Any

from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as lazy
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_q import admin as q_admin
from django_q.models import Failure, OrmQ, Schedule, Success
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from waserver import two_factor

admin.site.login_template = "waserver/login.html"
for model in (User, Group, Schedule, Success, Failure, OrmQ, LogEntry, TOTPDevice, StaticDevice):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_urls(self) -> list[URLPattern]:
        own = path("two-factor/", self.admin_site.admin_view(two_factor.page), name="two_factor")
        return [own, *super().get_urls()]


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


@admin.register(Schedule)
class ScheduleAdmin(q_admin.ScheduleAdmin, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "schedule_type", "cron", "next_run", "get_last_run", "get_success"]
    list_display_links = ["name"]


@admin.register(Success)
class SuccessAdmin(q_admin.TaskAdmin, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "group", "func", "started", "time_taken"]


@admin.register(Failure)
class FailureAdmin(q_admin.FailAdmin, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "group", "func", "started", "short_result"]


@admin.register(OrmQ)
class OrmQAdmin(q_admin.QueueAdmin, ModelAdmin):  # type: ignore[misc]
    pass


class WrittenByServer(ModelAdmin):  # type: ignore[misc]
    """To look at, at most to delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(LogEntry)
class LogEntryAdmin(WrittenByServer):
    list_display = ["timestamp", "actor", "action", "content_type", "object_repr", "changed"]
    list_filter = ["action", "content_type"]
    search_fields = ["object_repr", "actor__username"]
    list_select_related = ["actor", "content_type"]
    fields = ["timestamp", "actor", "action", "content_type", "object_repr", "changes", "remote_addr"]
    show_full_result_count = False

    @admin.display(description=lazy("what changed"))
    def changed(self, entry: LogEntry) -> str:
        return ", ".join(entry.changes or ()) or "–"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AccessAttempt)
class AccessAttemptAdmin(WrittenByServer):
    """Deleting one lets that person try again at once."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start"]
    search_fields = ["username", "ip_address"]
    fields = ["attempt_time", "username", "ip_address", "failures_since_start", "user_agent"]


@admin.register(TOTPDevice)
class TOTPDeviceAdmin(WrittenByServer):
    """Deleting one turns two-factor log-in off for a person who lost the phone. The key is never shown."""

    list_display = ["user", "confirmed", "created_at", "last_used_at"]
    list_select_related = ["user"]
    fields = ["user", "confirmed", "created_at", "last_used_at"]
