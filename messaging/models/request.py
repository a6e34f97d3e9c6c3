"""HostRequest: a question only the host of a session can answer, with a time by which it must."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account


class Ask(models.TextChoices):
    """What can be asked. Beside each: its arguments -> its answer."""

    CONTACTS = "contacts", _("which numbers are on WhatsApp")
    #: {"phones": [digits]} -> {"contacts": [{"phone", "jid", "lid", "on_whatsapp", "name"}]}
    PICTURE = "picture", _("profile picture")  # {"jid"} -> {"url", "id"} (both "" when there is none)
    GROUPS = "groups", _("groups")  # {} -> {"groups": [as below, without participants]}
    GROUP = "group", _("one group")
    #: {"jid"} -> {"jid", "name", "topic", "owner", "created_at", "size",
    #: "participants": [{"jid", "phone", "lid", "admin"}]}
    TYPING = "typing", _("show typing")  # {"jid", "state": "composing" | "recording" | "paused"} -> {}
    PRESENCE = "presence", _("be available")  # {"state": "available" | "unavailable"} -> {}


class HostRequestQuerySet(models.QuerySet["HostRequest"]):
    def open(self, now: datetime) -> HostRequestQuerySet:
        """Those somebody still waits for, oldest first."""
        return self.filter(answered_at=None, deadline_at__gt=now).order_by("pk")


class HostRequest(models.Model):
    """Answered at most once. Repeating one does no harm: none of them changes anything lasting."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="host_requests")
    ask = models.CharField(_("what"), max_length=12, choices=Ask.choices)
    arguments = models.JSONField(_("arguments"), default=dict)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    deadline_at = models.DateTimeField(_("deadline"), db_index=True)
    answered_at = models.DateTimeField(_("answered"), null=True, db_index=True)
    answer = models.JSONField(_("answer"), default=dict)
    #: A code of messaging.errors; "" is success.
    error_code = models.CharField(_("error code"), max_length=40, blank=True)
    error = models.TextField(_("error"), blank=True)

    objects = HostRequestQuerySet.as_manager()

    class Meta:
        verbose_name = _("request to a host")
        verbose_name_plural = _("requests to hosts")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.ask} {self.account_id}"

    @classmethod
    def put(cls, account: Account, ask: Ask, arguments: dict[str, Any], patience: timedelta) -> HostRequest:
        """Ask; the host answers within half a second or so, or nobody does."""
        now = timezone.now()
        return cls.objects.create(account=account, ask=ask, arguments=arguments, created_at=now,
                                  deadline_at=now + patience)  # fmt: skip

    def finish(self, answer: dict[str, Any] | None = None, *, error_code: str = "", error: str = "") -> bool:
        """Answer it; False when it was answered already."""
        return HostRequest.objects.filter(pk=self.pk, answered_at=None).update(
            answered_at=timezone.now(), answer=answer or {}, error_code=error_code, error=error
        ) == 1  # fmt: skip
