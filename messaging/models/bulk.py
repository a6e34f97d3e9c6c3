"""Bulk: one text for many people, each a message of its own."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, ApiKey
from messaging.kinds import Kind
from messaging.models.media import Media
from messaging.models.message import Message
from messaging.states import MessageState


class BulkState(models.TextChoices):
    """Where it is."""

    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    DONE = "done", _("done")
    CANCELLED = "cancelled", _("cancelled")


class RecipientState(models.TextChoices):
    """Whether a recipient's message was made; what became of it, the message says."""

    WAITING = "waiting", _("waiting")
    QUEUED = "queued", _("queued")
    REFUSED = "refused", _("refused")


class Bulk(models.Model):
    """The dispatcher queues its messages a few at a time, so that a pause takes hold at once."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="bulks")
    name = models.CharField(_("name"), max_length=120)
    kind = models.CharField(_("kind"), max_length=12, choices=[(k, k) for k in Kind], default=Kind.TEXT)
    #: As Message.content; its texts may hold {{variables}} and {spin|text}.
    content = models.JSONField(_("content"), default=dict)
    media = models.ForeignKey(Media, on_delete=models.SET_NULL, null=True, blank=True, related_name="bulks")
    state = models.CharField(_("state"), max_length=10, choices=BulkState.choices, default=BulkState.RUNNING)
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_by = models.CharField(_("by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    send_at = models.DateTimeField(_("begins"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("bulk send")
        verbose_name_plural = _("bulk sends")
        ordering = ["-id"]
        permissions = [("control_bulk", "Can start, pause and cancel bulk sends")]

    def __str__(self) -> str:
        return self.name

    def pause(self) -> bool:
        """Make no more messages; those already queued go out."""
        return self._change([BulkState.RUNNING], BulkState.PAUSED)

    def resume(self) -> bool:
        """Go on."""
        return self._change([BulkState.PAUSED], BulkState.RUNNING)

    def cancel(self, by: str) -> bool:
        """End it, and take back what is still queued."""
        with transaction.atomic():
            if not self._change([BulkState.RUNNING, BulkState.PAUSED], BulkState.CANCELLED, finished_at=timezone.now()):
                return False
            for message in Message.objects.select_related("chat", "account", "media").filter(
                recipient__bulk=self, state=MessageState.QUEUED
            ):
                message.cancel(by)
        return True

    def progress(self) -> dict[str, int]:
        """Return the number of recipients by what became of them: waiting, refused, or a state of their message."""
        counts: dict[str, int] = {"total": 0}
        rows = self.recipients.order_by().values_list("state", "message__state").annotate(n=models.Count("pk"))
        for state, became, n in rows:
            name = became if state == RecipientState.QUEUED and became else state
            counts[name] = counts.get(name, 0) + n
            counts["total"] += n
        return counts

    def _change(self, sources: list[BulkState], state: BulkState, **values: Any) -> bool:
        changed = Bulk.objects.filter(pk=self.pk, state__in=sources).update(state=state, **values) == 1
        if changed:
            self.state = state
        return changed


class BulkRecipient(models.Model):
    """One person of a bulk send."""

    bulk = models.ForeignKey(Bulk, on_delete=models.CASCADE, related_name="recipients", db_index=False)
    phone = models.CharField(_("phone number"), max_length=20)
    variables = models.JSONField(_("variables"), default=dict, blank=True)
    state = models.CharField(
        _("state"), max_length=8, choices=RecipientState.choices, default=RecipientState.WAITING
    )
    message = models.OneToOneField(Message, on_delete=models.SET_NULL, null=True, related_name="recipient")
    error = models.TextField(_("error"), blank=True)

    class Meta:
        verbose_name = _("recipient")
        verbose_name_plural = _("recipients")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["bulk", "phone"], name="recipient_once_per_bulk")]
        indexes = [models.Index(fields=["bulk", "state", "id"], name="recipient_waiting")]

    def __str__(self) -> str:
        return self.phone
