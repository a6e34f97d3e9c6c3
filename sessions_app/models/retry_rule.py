"""RetryRule: a row of the retry policy, as staff edited it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from sessions_app import retry


class RetryRuleQuerySet(models.QuerySet["RetryRule"]):
    def table(self) -> Mapping[int, retry.Rule | None]:
        """Return the whole policy: the defaults, with these rows in their place. One query."""
        return {**retry.DEFAULTS, **{row.code: row.rule for row in self}}


class RetryRule(models.Model):
    """How long to wait after a failure with one code; 0 stands for every code without a row. Applied at once."""

    code = models.PositiveIntegerField(_("code"), primary_key=True)
    first = models.FloatField(_("first delay (s)"), validators=[MinValueValidator(0), MaxValueValidator(86400)])
    growth = models.FloatField(_("growth"), validators=[MinValueValidator(1), MaxValueValidator(10)])
    cap = models.FloatField(_("longest delay (s)"), validators=[MinValueValidator(1), MaxValueValidator(86400)])
    jitter = models.FloatField(
        _("jitter (share)"), default=retry.JITTER, validators=[MinValueValidator(0), MaxValueValidator(1)]
    )

    objects = RetryRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("retry rule")
        verbose_name_plural = _("retry policy")
        ordering = ["code"]

    def __str__(self) -> str:
        return str(self.code or _("any other"))

    @property
    def rule(self) -> retry.Rule:
        """Return it in the policy's terms."""
        return retry.Rule(timedelta(seconds=self.first), self.growth, timedelta(seconds=self.cap), self.jitter)

    def clean(self) -> None:
        if self.code in (retry.LOGGED_OUT, retry.FORBIDDEN):
            raise ValidationError({"code": _("A logged-out account is never tried again: it must be paired.")})
        if self.first is not None and self.code != retry.RESTART and self.first < 1:
            raise ValidationError({"first": _("Less than 1 s would hammer WhatsApp: use 1 s or more.")})
        if self.first is not None and self.cap is not None and self.cap < self.first:
            raise ValidationError({"cap": _("The longest delay must not be below the first.")})


def register(**kwargs: object) -> None:
    """Make the rows that are missing, from the defaults. After migrate."""
    for code, rule in retry.DEFAULTS.items():
        if rule is not None:
            RetryRule.objects.get_or_create(
                code=code,
                defaults={
                    "first": rule.first.total_seconds(), "growth": rule.growth, "cap": rule.cap.total_seconds(),
                    "jitter": rule.jitter,
                },
            )  # fmt: skip
