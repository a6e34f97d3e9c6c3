"""AlertChannel: where people are told. AlertDelivery: one thing to tell one channel, told once."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encrypted import EncryptedTextField
from monitoring.models.entry import EntryKind
from monitoring.models.incident import Incident, Severity
from monitoring.quiet_hours import quiet_until

#: How long after each failed attempt the next follows; after the last one the delivery has failed.
RETRY_DELAYS = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(minutes=30),
                timedelta(hours=2))  # fmt: skip
#: A process that claimed a delivery so long ago has died.
CLAIM = timedelta(minutes=5)
#: At most so many things in one message.
FOLD = 50


class Change(models.TextChoices):
    """What is told. Those of an incident bear the names of its timeline's entries."""

    OPENED = EntryKind.OPENED.value, _("opened")
    REOPENED = EntryKind.REOPENED.value, _("opened again")
    ESCALATED = EntryKind.ESCALATED.value, _("became critical")
    RESOLVED = EntryKind.RESOLVED.value, _("resolved")
    TEST = "test", _("test")
    REPORT = "report", _("report")


class DeliveryState(models.TextChoices):
    """Where a delivery stands."""

    QUEUED = "queued", _("waits")
    SENDING = "sending", _("being sent")
    SENT = "sent", _("delivered")
    FAILED = "failed", _("failed")


def _here() -> str:
    zone: str = settings.TIME_ZONE
    return zone


def check_zone(name: str) -> None:
    """Raise ValidationError unless it is the name of a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValidationError(
            _("“%(name)s” is not a time zone. Write it like Asia/Jakarta or Europe/Berlin."), params={"name": name}
        ) from error


class AlertChannelQuerySet(models.QuerySet["AlertChannel"]):
    def wanting(self, incident: Incident, change: Change) -> AlertChannelQuerySet:
        """Those to be told of it."""
        found = self.filter(enabled=True, **{f"on_{incident.severity}": True})
        return found.filter(on_resolution=True) if change == Change.RESOLVED else found

    def failing(self) -> AlertChannelQuerySet:
        """Those in use whose last delivery did not arrive."""
        never = Q(last_success_at=None, last_failure_at__isnull=False)
        return self.filter(never | Q(last_failure_at__gt=F("last_success_at")), enabled=True)


class AlertChannel(models.Model):
    """`url` is an Apprise URL: it may hold passwords and tokens, is stored encrypted and never shown again."""

    name = models.CharField(_("name"), max_length=80, unique=True, help_text=_("For example “Night phone”."))
    url = EncryptedTextField(_("address"))
    service = models.CharField(_("service"), max_length=80, blank=True, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    on_warning = models.BooleanField(_("warnings"), default=True)
    on_critical = models.BooleanField(_("critical incidents"), default=True)
    on_resolution = models.BooleanField(_("also when they are resolved"), default=True)
    quiet_from = models.TimeField(
        _("quiet from"), null=True, blank=True,
        help_text=_("In quiet hours only what needs immediate attention is told; the rest follows in one message when "
                    "they end. Leave both empty for none."),
    )  # fmt: skip
    quiet_to = models.TimeField(_("quiet until"), null=True, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default=_here, validators=[check_zone])
    daily_report = models.BooleanField(_("daily report"), default=False)
    report_at = models.TimeField(_("report at"), default=time(8), help_text=_("On the clock of the time zone."))
    last_success_at = models.DateTimeField(_("last delivered"), null=True, blank=True, editable=False)
    last_failure_at = models.DateTimeField(_("last failure"), null=True, blank=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)

    objects = AlertChannelQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValidationError({"quiet_to": _("Quiet hours need a beginning and an end: fill in both, or neither.")})
        if self.quiet_from is not None and self.quiet_from == self.quiet_to:
            raise ValidationError({"quiet_to": _("These quiet hours would have no length, or no end: "
                                                 "choose another end.")})  # fmt: skip

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """Return its clock."""
        return zoneinfo.ZoneInfo(self.time_zone)

    @property
    def is_failing(self) -> bool:
        """Return whether its last delivery did not arrive."""
        return self.last_failure_at is not None and (
            self.last_success_at is None or self.last_failure_at > self.last_success_at
        )

    def earliest(self, when: datetime, urgent: bool) -> datetime:
        """Return when something that is to be told at `when` may be told."""
        if urgent or self.quiet_from is None or self.quiet_to is None:
            return when
        return quiet_until(when, self.quiet_from, self.quiet_to, self.zone) or when

    def queue(self, key: str, change: Change, title: str, body: str, **fields: Any) -> AlertDelivery:
        """Return a row, not saved, that tells it `title` and `body`."""
        now, urgent = timezone.now(), bool(fields.get("urgent"))
        return AlertDelivery(channel=self, key=key, change=change, title=title, body=body, created_at=now,
                             next_at=self.earliest(now, urgent), **fields)  # fmt: skip


class AlertDeliveryQuerySet(models.QuerySet["AlertDelivery"]):
    def due(self, now: datetime) -> AlertDeliveryQuerySet:
        """Those to be sent now."""
        return self.filter(state=DeliveryState.QUEUED, next_at__lte=now)

    def overdue(self, now: datetime) -> AlertDeliveryQuerySet:
        """Those that should have been sent long ago: then nobody delivers."""
        return self.due(now - CLAIM)

    def take_back(self, now: datetime) -> int:
        """Queue again what a process claimed that died since; it may arrive twice rather than not at all."""
        return self.filter(state=DeliveryState.SENDING, claimed_at__lt=now - CLAIM).update(
            state=DeliveryState.QUEUED, next_at=now
        )

    def claim(self, token: str, now: datetime) -> list[AlertDelivery]:
        """Make the due rows of this set ours, at most FOLD, and return them: another process gets none of them."""
        ids = list(self.due(now).order_by("id").values_list("pk", flat=True)[:FOLD])
        AlertDelivery.objects.filter(pk__in=ids, state=DeliveryState.QUEUED).update(
            state=DeliveryState.SENDING, claim=token, claimed_at=now, attempts=F("attempts") + 1
        )
        return list(AlertDelivery.objects.filter(pk__in=ids, claim=token).select_related("incident").order_by("id"))


class AlertDelivery(models.Model):
    """The text is made when the thing happens; what it is about may be over when it arrives."""

    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries",
                                verbose_name=_("channel"))  # fmt: skip
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries",
                                 verbose_name=_("incident"))  # fmt: skip
    #: What it tells, once per channel: "incident:change:how often it was opened again", "report:date", "test:…".
    key = models.CharField(max_length=80)
    change = models.CharField(_("what"), max_length=12, choices=Change.choices)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity.choices, blank=True)
    urgent = models.BooleanField(_("immediate attention"), default=False)
    title = models.CharField(_("title"), max_length=250)
    body = models.TextField(_("text"))
    state = models.CharField(_("state"), max_length=8, choices=DeliveryState.choices, default=DeliveryState.QUEUED)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    next_at = models.DateTimeField(_("next attempt"))
    claim = models.CharField(max_length=32, blank=True)
    claimed_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(_("delivered"), null=True)

    objects = AlertDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts sent")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "key"], name="told_once_per_channel")]
        indexes = [models.Index(fields=["state", "next_at"], name="alert_due")]

    def __str__(self) -> str:
        return self.title

    def arrived(self, now: datetime) -> None:
        """Note that it was handed over."""
        self.state, self.sent_at, self.error = DeliveryState.SENT, now, ""
        self.save(update_fields=["state", "sent_at", "error"])

    def missed(self, now: datetime, error: str, final: bool = False) -> None:
        """Note a failed attempt: queue the next, or give up after the last (or at once when `final`)."""
        self.error = error
        if final or self.attempts > len(RETRY_DELAYS):
            self.state = DeliveryState.FAILED
        else:
            again = now + RETRY_DELAYS[self.attempts - 1]
            self.state, self.next_at = DeliveryState.QUEUED, self.channel.earliest(again, self.urgent)
        self.save(update_fields=["state", "error", "next_at"])
