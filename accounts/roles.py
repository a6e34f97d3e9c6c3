"""The three ready roles of staff, as groups: made and kept current by every migrate. To vary one, copy it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

VIEWER, OPERATOR, ADMINISTRATOR = "Viewer", "Operator", "Administrator"
#: What the roles are about. An administrator has these apps whole; of them a viewer sees what is not withheld below.
OURS = ("accounts", "sessions_app", "messaging", "monitoring", "waserver", "django_q")
#: Who may use the server, and what was changed by whom: for administrators.
STAFF = ("auth", "otp_totp", "auditlog", "axes")
#: Not for viewers and operators: keys and secrets, and raw records of the machinery.
WITHHELD = frozenset({"apikey", "webhookendpoint", "alertchannel", "hostrequest", "eventcursor"})
#: What an operator may do besides looking: the daily work, by app. Everything else is an administrator's.
DAILY: Mapping[str, frozenset[str]] = {
    "accounts": frozenset({"add_account", "change_account"}),
    "sessions_app": frozenset({"pair_session", "control_session", "change_job"}),
    "messaging": frozenset({
        "add_message", "change_message", "add_bulk", "change_bulk",
        "add_contactpause", "change_contactpause", "delete_contactpause", "add_autoreply", "change_autoreply",
    }),
    "monitoring": frozenset({"change_incident"}),
}  # fmt: skip


def permissions(role: str) -> QuerySet[Permission]:
    """Return what a role may do."""
    looks = Q(content_type__app_label__in=OURS, codename__startswith="view_") & ~Q(content_type__model__in=WITHHELD)
    daily = Q(pk__in=[])
    for app, names in DAILY.items():
        daily |= Q(content_type__app_label=app, codename__in=names)
    everything = Q(content_type__app_label__in=(*OURS, *STAFF))
    rules = {VIEWER: looks, OPERATOR: looks | daily, ADMINISTRATOR: everything}
    return Permission.objects.filter(rules[role])


def register(**kwargs: Any) -> None:
    """Make the groups and set their permissions. After migrate, once every app has its permissions."""
    for role in (VIEWER, OPERATOR, ADMINISTRATOR):
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set(permissions(role))
