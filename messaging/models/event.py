"""Event: the outgoing stream, append-only, that webhooks and WebSockets follow by position.

Ids are given before commit, so a lower id can appear after a higher one. A reader therefore never goes by id: `publish`
gives positions to events that are committed, one call at a time under a row lock, so positions appear in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.change import change_each, insert, insert_all
from accounts.models import Account
from messaging.models.gathering import Gathering

if TYPE_CHECKING:
    from messaging.models.message import Message


class EventKind(models.TextChoices):
    """What is told. Names are part of the API."""

    RECEIVED = "message.received", _("a message arrived")
    SENT = "message.sent", _("a message was sent")
    DELIVERED = "message.delivered", _("a message was delivered")
    READ = "message.read", _("a message was read")
    FAILED = "message.failed", _("a message failed")
    UNCERTAIN = "message.uncertain", _("the outcome of a message is unknown")
    CANCELLED = "message.cancelled", _("a message was cancelled")
    EDITED = "message.edited", _("a message was edited")
    REVOKED = "message.revoked", _("a message was deleted for everyone")
    REACTION = "message.reaction", _("a reaction arrived")
    SESSION = "session.changed", _("a session changed its state")
    TEST = "webhook.test", _("a test")


class EventCursor(models.Model):
    """One row: the last position given. Its lock makes `publish` one at a time."""

    position = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.position)


class EventQuerySet(models.QuerySet["Event"]):
    #: Positions given in one go.
    PUBLISH = 500

    def publish(self) -> int:
        """Give committed events their positions; return how many. Whoever wants to read calls it first."""
        if not self.filter(position=None).exists():
            return 0
        with transaction.atomic():
            cursor, _made = EventCursor.objects.select_for_update().get_or_create(pk=1)
            # Read after the lock: whatever the last holder published has its position by now.
            pks = list(self.filter(position=None).order_by("pk").values_list("pk", flat=True)[: self.PUBLISH])
            if pks:
                change_each(Event, {pk: {"position": cursor.position + n} for n, pk in enumerate(pks, start=1)})
                cursor.position += len(pks)
                cursor.save(update_fields=["position"])
        return len(pks)

    def after(self, position: int) -> EventQuerySet:
        """Return the published events after a position, in order."""
        return self.filter(position__gt=position).order_by("position")


class Event(models.Model):
    """One thing told, with what is told about it as it was then."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, related_name="events")
    message = models.ForeignKey("messaging.Message", on_delete=models.SET_NULL, null=True, related_name="events")
    kind = models.CharField(_("kind"), max_length=24, choices=EventKind.choices)
    body = models.JSONField(_("body"), default=dict)
    at = models.DateTimeField(_("at"), default=timezone.now, db_index=True)
    position = models.BigIntegerField(_("position"), null=True, unique=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @classmethod
    def append(
        cls, kind: EventKind, account_id: int | None, body: Mapping[str, Any], *, message: Message | None = None,
        at: datetime | None = None,
    ) -> Event:  # fmt: skip
        """Add one, in the caller's transaction: it is told if and only if what it tells of is committed."""
        event = cls(kind=kind, account_id=account_id, body=dict(body), message=message, at=at or timezone.now())
        EVENTS.add(event)
        return event


def _write(events: list[Event]) -> None:
    if len(events) == 1:
        insert(events[0])
    else:
        insert_all(events)


#: What is appended; `together` writes it in one statement.
EVENTS = Gathering(_write)
