"""RetryRule: a row of the retry policy, as staff edited it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from sessions_app import retry
from sessions_app.fleet import FAILED
from sessions_app.models.session import Session
from sessions_app.states import State

#: Code -> the least first delay, in seconds; 1 for every other. After a restart WhatsApp asked for there is nothing to
#: wait for; a conflict, a ban and a rejected version do not pass within seconds.
LEAST = {retry.RESTART: 0, retry.REPLACED: 10, retry.BANNED: 300, retry.OUTDATED: 600}


class RetryRuleQuerySet(models.QuerySet["RetryRule"]):
    def table(self) -> Mapping[int, retry.Rule | None]:
        """Return the whole policy: the defaults, with these rows in their place. One query."""
        return {**retry.DEFAULTS, **{row.code: row.rule for row in self}}


class RetryRule(models.Model):
    """How long to wait after a failure with one code; 0 stands for every code without a row. Applied at once:

    to the next failure by the host that sees it, and by `apply_to_waiting` to those that wait already.
    """

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
        least = LEAST.get(self.code, 1)
        if self.first is not None and self.first < least:
            raise ValidationError({"first": _("Less than %(least)d s would hammer WhatsApp: use %(least)d s or more.")
                                   % {"least": least}})  # fmt: skip
        if self.first is not None and self.cap is not None and self.cap < self.first:
            raise ValidationError({"cap": _("The longest delay must not be below the first.")})


def apply_to_waiting(codes: Iterable[int]) -> int:
    """Have the sessions that wait after failures with these codes wait as the policy says now; return their number.

    0 stands for every code without a row. A ban waits until it expires, whatever the policy. One query reads, one
    writes for each that changed; a session whose host wrote meanwhile is left alone: it has the new policy already.
    """
    table, scale, changed = RetryRule.objects.table(), settings.RETRY_TIME_SCALE, 0
    wanted = set(codes)
    waiting = Session.objects.filter(state__in=FAILED, attempts__gt=0, retry_at__isnull=False)
    for row in waiting.exclude(state=State.BANNED):
        code = row.code or retry.OTHER
        failures = row.recent_failures
        if not failures or not ({code} & wanted or (retry.OTHER in wanted and code not in table)):
            continue
        follows = retry.after_failure(
            failures, row.attempts, failures[-1].at, random.random(),  # noqa: S311 - jitter
            breaker_open=row.breaker_open, rules=table, scale=scale,
        )  # fmt: skip
        if follows.retry_at is not None:
            changed += Session.objects.filter(pk=row.pk, version=row.version).update(
                retry_at=follows.retry_at, version=F("version") + 1
            )
    return changed


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
