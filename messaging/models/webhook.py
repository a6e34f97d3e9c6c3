"""WebhookEndpoint and Delivery: where events are sent, and what came of each."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Max, Min
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encrypted import EncryptedTextField
from accounts.models import Account
from messaging.models.event import Event, EventKind

#: Deliveries of a replay that are in memory at once.
_BATCH = 2_000


def new_secret() -> str:
    """Return a signing secret in the form of the Standard Webhooks specification, 32 random bytes."""
    return f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    def active(self) -> WebhookEndpointQuerySet:
        """Those that get events."""
        return self.filter(disabled_at=None)

    def broken(self) -> WebhookEndpointQuerySet:
        """Those the server gave up on, and nobody has looked at since."""
        return self.filter(disabled_at__isnull=False, failing_since__isnull=False)


class WebhookEndpoint(models.Model):
    """Events reach it in order per account, at least once; the id of an event tells a repetition."""

    #: After rotation the old secret signs too for so long.
    OVERLAP = timedelta(hours=24)

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True, blank=True, related_name="webhooks",
        help_text=_("Leave empty to send the events of every account."),
    )  # fmt: skip
    url = models.CharField(_("URL"), max_length=2000)
    description = models.CharField(_("description"), max_length=120, blank=True)
    events = models.JSONField(_("events"), default=list, blank=True)  # [] is all
    secret = EncryptedTextField(_("secret"), default=new_secret)
    old_secret = EncryptedTextField(null=True, blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    #: Deliveries are made for events after this position.
    position = models.BigIntegerField(default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    disabled_at = models.DateTimeField(_("disabled"), null=True, blank=True)
    disabled_reason = models.CharField(_("why"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.description or self.url

    def save(self, *args: object, **kwargs: object) -> None:
        if self._state.adding and not self.position:
            # A new endpoint is told what happens from now on; earlier events are a replay.
            Event.objects.publish()
            self.position = Event.objects.aggregate(last=Max("position"))["last"] or 0
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def signing_secrets(self, now: datetime) -> list[str]:
        """Return the secrets to sign with, the current one first."""
        old = self.old_secret if self.old_secret_until and self.old_secret_until > now else None
        return [self.secret, *([old] if old else [])]

    def rotate(self) -> str:
        """Make a new secret and return it; the one before is valid for 24 hours more."""
        self.old_secret, self.old_secret_until = self.secret, timezone.now() + self.OVERLAP
        self.secret = new_secret()
        self.save(update_fields=["secret", "old_secret", "old_secret_until"])
        return str(self.secret)

    def wants(self, event: Event) -> bool:
        """Return whether this event is for it."""
        mine = self.account_id is None or event.account_id == self.account_id
        return mine and event.kind != EventKind.TEST and (not self.events or event.kind in self.events)

    def disable(self, reason: str) -> None:
        """Send it nothing more until a person enables it: it failed for too long, or is gone."""
        self.disabled_at, self.disabled_reason = timezone.now(), reason[:200]
        self.save(update_fields=["disabled_at", "disabled_reason"])

    def switch_off(self, by: str) -> None:
        """Send it nothing more because somebody wants it so: not a failure, and no incident."""
        self.failing_since = None
        self.save(update_fields=["failing_since"])
        self.disable(str(_("Switched off by %(by)s.") % {"by": by}))

    def enable(self) -> None:
        """Send again, beginning with what waited."""
        self.disabled_at, self.disabled_reason, self.failing_since = None, "", None
        with transaction.atomic():
            self.save(update_fields=["disabled_at", "disabled_reason", "failing_since"])
            self.deliveries.filter(state=DeliveryState.PENDING).update(next_at=timezone.now())

    def send_test(self) -> Delivery:
        """Queue a test event to it alone."""
        event = Event.append(EventKind.TEST, self.account_id, {"message": "This is a test of your webhook."})
        return Delivery.objects.create(endpoint=self, event=event, account_id=self.account_id)

    def wanted(self, events: models.QuerySet[Event]) -> models.QuerySet[Event]:
        """Return those of these events that were told and are for it, in their order: `wants`, for many."""
        told = events.exclude(position=None).exclude(kind=EventKind.TEST).order_by("position")
        if self.account_id is not None:
            told = told.filter(account=self.account_id)
        return told.filter(kind__in=self.events) if self.events else told

    def replay(self, events: models.QuerySet[Event]) -> int:
        """Queue these events for it again, in order; return how many. Their ids are the same as the first time."""
        wanted = list(self.wanted(events).values_list("pk", "account_id"))
        # A transaction for each batch: one for 100,000 events would keep SQLite's other writers waiting for 8 s.
        for first in range(0, len(wanted), _BATCH):
            Delivery.objects.bulk_create([
                Delivery(endpoint=self, event_id=pk, account_id=account, replay=True)
                for pk, account in wanted[first : first + _BATCH]
            ], batch_size=200)  # fmt: skip
        return len(wanted)


class DeliveryState(models.TextChoices):
    """What came of it."""

    PENDING = "pending", _("pending")
    DELIVERED = "delivered", _("delivered")
    DEAD = "dead", _("given up")


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def heads(self, now: datetime) -> list[Delivery]:
        """Return the first pending delivery of each (endpoint, account), where its time has come."""
        pending = self.filter(state=DeliveryState.PENDING, endpoint__disabled_at=None)
        first = pending.order_by().values("endpoint_id", "account_id").annotate(first=Min("pk")).values("first")
        pks = [row["first"] for row in first]
        return list(self.filter(pk__in=pks, next_at__lte=now).select_related("endpoint", "event").order_by("pk"))


class Delivery(models.Model):
    """One event on its way to one endpoint. Kept as the log of what was tried."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, related_name="+")
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    replay = models.BooleanField(_("replay"), default=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    #: Retries end 24 h after the first attempt, not after the event: an endpoint that was disabled still gets it.
    first_at = models.DateTimeField(_("first attempt"), null=True)
    last_at = models.DateTimeField(_("last attempt"), null=True)
    next_at = models.DateTimeField(_("next attempt"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)
    code = models.IntegerField(_("answer"), null=True)
    duration = models.DurationField(_("took"), null=True)
    error = models.TextField(_("error"), blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        permissions = [("replay_delivery", "Can send deliveries again")]
        indexes = [
            models.Index(fields=["state", "endpoint", "account", "id"], name="delivery_heads"),
            models.Index(fields=["endpoint", "-id"], name="delivery_log"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} → {self.endpoint_id}"

    @property
    def webhook_id(self) -> str:
        """Return the id the receiver knows it by: the same for every attempt and replay."""
        return f"evt_{self.event_id}"

    def again(self) -> Delivery:
        """Queue it once more; return the new delivery."""
        return Delivery.objects.create(endpoint_id=self.endpoint_id, event_id=self.event_id,
                                       account_id=self.account_id, replay=True)  # fmt: skip
