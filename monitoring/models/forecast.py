"""ForecastRun: one hour's learning and how well it did. Forecast: the risk of one session for the hour after it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from sessions_app.models import Session

#: An older forecast is about an hour that is over.
CURRENT = timedelta(minutes=90)


class ForecastRunQuerySet(models.QuerySet["ForecastRun"]):
    def current(self, now: datetime) -> ForecastRun | None:
        """Return the one that speaks of this hour, or None."""
        return self.filter(at__gt=now - CURRENT, at__lte=now).order_by("-at", "-id").first()


class ForecastRun(models.Model):
    """`finding` says whether its forecasts may be shown; precision and recall are of its forecasts of past hours."""

    at = models.DateTimeField(_("at"), db_index=True)
    finding = models.CharField(_("finding"), max_length=12)
    days = models.FloatField(_("days of history"), default=0)
    hours = models.PositiveIntegerField(_("hours learnt from"), default=0)
    drops = models.PositiveIntegerField(_("hours with a drop"), default=0)
    threshold = models.FloatField(_("warns from"), default=0)
    usual = models.FloatField(_("usual risk"), default=0)
    precision = models.FloatField(_("precision"), default=0)
    recall = models.FloatField(_("recall"), default=0)
    yesterday_precision = models.FloatField(_("precision of “same as yesterday”"), default=0)
    yesterday_recall = models.FloatField(_("recall of “same as yesterday”"), default=0)
    seconds = models.FloatField(_("took (s)"), default=0)

    objects = ForecastRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("forecast run")
        verbose_name_plural = _("forecast runs")
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.finding}"


class Forecast(models.Model):
    """`risk` is the probability of a drop within an hour of `at`; None: too little is known of this session."""

    run = models.ForeignKey(ForecastRun, on_delete=models.CASCADE, related_name="forecasts")
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="forecasts")
    at = models.DateTimeField(_("at"))
    risk = models.FloatField(_("risk"), null=True)
    high = models.BooleanField(_("warned"), default=False)
    reasons = models.JSONField(_("reasons"), default=list)  # [[feature, its value], ...], the strongest first
    hours = models.PositiveIntegerField(_("hours known"), default=0)

    class Meta:
        verbose_name = _("forecast")
        verbose_name_plural = _("forecasts")
        ordering = ["-at", "-risk"]
        constraints = [models.UniqueConstraint(fields=["run", "session"], name="one_forecast_per_session_and_run")]

    def __str__(self) -> str:
        return f"{self.session}: {self.risk}"
