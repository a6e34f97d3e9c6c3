"""PacingRule and AutoReply: what staff set per account."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.models import Account
from messaging.pacing import UNPACED, Pace


class PacingRuleQuerySet(models.QuerySet["PacingRule"]):
    def paces(self, accounts: Collection[int]) -> dict[int, Pace]:
        """Return the limits of each account."""
        if not settings.PACING:
            return dict.fromkeys(accounts, UNPACED)
        return dict.fromkeys(accounts, Pace()) | {r.account_id: r.pace for r in self.filter(account__in=accounts)}


class PacingRule(models.Model):
    """How fast an account may write. Without a row the defaults of messaging.pacing hold."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="pacing")
    enabled = models.BooleanField(_("enabled"), default=True)
    per_minute = models.PositiveIntegerField(
        _("messages per minute"), default=30, validators=[MinValueValidator(1), MaxValueValidator(6000)]
    )
    gap = models.FloatField(
        _("shortest gap (s)"), default=1.0, validators=[MinValueValidator(0), MaxValueValidator(600)]
    )
    jitter = models.FloatField(
        _("jitter (share of the gap)"), default=0.5, validators=[MinValueValidator(0), MaxValueValidator(5)]
    )
    daily_cap = models.PositiveIntegerField(
        _("messages per day"), default=1000, validators=[MinValueValidator(1)],
        help_text=_("To people who never wrote to this account."),
    )  # fmt: skip
    quiet_from = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_until = models.TimeField(_("quiet until"), null=True, blank=True)
    warm_up = models.BooleanField(
        _("warm up"), default=True,
        help_text=_("An account paired less than 10 days ago may write to fewer new people per day."),
    )  # fmt: skip
    typing = models.BooleanField(_("show typing first"), default=False)

    objects = PacingRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("pacing rule")
        verbose_name_plural = _("pacing")
        ordering = ["account__label"]

    def __str__(self) -> str:
        return str(self.account)

    @property
    def pace(self) -> Pace:
        """Return it in the policy's terms."""
        return Pace(
            self.per_minute, timedelta(seconds=self.gap), self.jitter, self.daily_cap, self.quiet_from,
            self.quiet_until, self.warm_up, self.typing, self.enabled,
        )  # fmt: skip

    def clean(self) -> None:
        if (self.quiet_from is None) != (self.quiet_until is None):
            raise ValidationError({"quiet_until": _("Give both ends of the quiet hours, or none.")})


class Match(models.TextChoices):
    """How a keyword is compared, upper and lower case alike."""

    EXACT = "exact", _("is the whole message")
    WORD = "word", _("is a word of the message")
    BEGINS = "begins", _("begins the message")


class AutoReply(models.Model):
    """An answer to a keyword, in chats with people. It never answers itself into a loop."""

    #: One rule answers one chat at most this often.
    COOLDOWN = timedelta(minutes=1)

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="auto_replies")
    enabled = models.BooleanField(_("enabled"), default=False)
    keyword = models.CharField(_("keyword"), max_length=80)
    match = models.CharField(_("matches when it"), max_length=8, choices=Match.choices, default=Match.WORD)
    reply = models.TextField(_("reply"), max_length=4096)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("automatic reply")
        verbose_name_plural = _("automatic replies")
        ordering = ["account", "id"]
        constraints = [models.UniqueConstraint(fields=["account", "keyword", "match"], name="auto_reply_once")]

    def __str__(self) -> str:
        return self.keyword


class AutoReplySent(models.Model):
    """When a rule last answered a chat."""

    rule = models.ForeignKey(AutoReply, on_delete=models.CASCADE, related_name="+")
    chat = models.ForeignKey("messaging.Chat", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "chat"], name="auto_reply_sent_once")]

    def __str__(self) -> str:
        return f"{self.rule_id} {self.chat_id}"
