"""Threshold: when a metric is bad, for all or for one account. Staff edit it; it holds from the next reading on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.models import Account
from monitoring.metrics import METRICS, Action, Direction

_ACTIONS = [
    (Action.NONE.value, _("only the incident")),
    (Action.RESTART_HOST.value, _("restart the largest host gracefully")),
    (Action.INVESTIGATE.value, _("attach a diagnosis: accounts, codes, log lines")),
    (Action.PERFORMANCE_CHECK.value, _("attach the slowest routes and queries")),
    (Action.NOTIFY.value, _("notify at once, whatever the hour")),
]


class ThresholdQuerySet(models.QuerySet["Threshold"]):
    def in_force(self) -> Mapping[tuple[str, int | None], Threshold]:
        """Return the enabled ones by (metric, account id or None). One query."""
        return {(row.metric, row.account_id): row for row in self.filter(enabled=True)}


class Threshold(models.Model):
    """Beyond `warning` a reading is a warning, beyond `critical` critical."""

    metric = models.CharField(_("metric"), max_length=32, choices=[(m.name, m.label) for m in METRICS.values()])
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True, blank=True, related_name="thresholds", verbose_name=_("account"),
        help_text=_("Empty: for the whole server. An account of its own is measured by itself as well."),
    )  # fmt: skip
    warning = models.FloatField(_("warning"))
    critical = models.FloatField(_("critical"))
    action = models.CharField(
        _("action"), max_length=20, choices=_ACTIONS, default=Action.NONE.value, blank=True
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    #: (metric, account) in one column: NULL accounts are all different to a database's own unique constraint.
    key = models.CharField(max_length=60, unique=True, editable=False)

    objects = ThresholdQuerySet.as_manager()

    class Meta:
        verbose_name = _("threshold")
        verbose_name_plural = _("thresholds")
        ordering = ["metric", "account"]

    def __str__(self) -> str:
        label = str(METRICS[self.metric].label) if self.metric in METRICS else self.metric
        return f"{label} ({self.account})" if self.account_id else label

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.key = self._key()
        super().save(*args, **kwargs)

    def _key(self) -> str:
        return f"{self.metric}|{self.account_id or ''}"

    def clean(self) -> None:
        metric = METRICS.get(self.metric)
        if metric is None:
            return  # its field has said so
        if self.account_id and not metric.per_account:
            raise ValidationError({"account": _("%(metric)s is measured for the whole server only: leave this empty.")
                                   % {"metric": metric.label}})  # fmt: skip
        if Threshold.objects.filter(key=self._key()).exclude(pk=self.pk).exists():
            raise ValidationError(_("There already is a threshold for this metric and account: change that one."))
        if self.warning is None or self.critical is None:
            return
        if self.warning < 0:
            raise ValidationError({"warning": _("A limit below 0 would always be crossed: use 0 or more.")})
        if metric.unit == "%" and max(self.warning, self.critical) >= 100:
            raise ValidationError(_("A share of 100 % or more can never be exceeded: use a limit below 100."))
        below = metric.direction is Direction.BELOW
        if (self.warning <= self.critical) if below else (self.warning >= self.critical):
            side = _("above") if below else _("below")
            raise ValidationError({"warning": _("The warning limit (%(warning)g) must be %(side)s the critical one "
                                                "(%(critical)g), or it would never be seen first.")
                                   % {"warning": self.warning, "critical": self.critical, "side": side}})  # fmt: skip


def register(**kwargs: object) -> None:
    """Make the rows that are missing, from the defaults. After migrate."""
    for metric in METRICS.values():
        if metric.default is not None:
            Threshold.objects.get_or_create(
                key=f"{metric.name}|",
                defaults={"metric": metric.name, "warning": metric.default.warning,
                          "critical": metric.default.critical, "action": metric.default.action.value},
            )  # fmt: skip
