"""HealthSample: one reading of a metric, or the hour's or day's readings in one row."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _


class Resolution(models.IntegerChoices):
    """Seconds a row stands for."""

    READING = 30, _("30 seconds")
    HOUR = 3600, _("hour")
    DAY = 86400, _("day")


class HealthSampleQuerySet(models.QuerySet["HealthSample"]):
    def series(self, metric: str, subject: str, since: datetime, resolution: Resolution) -> HealthSampleQuerySet:
        """Return the readings of one thing since then, oldest first."""
        return self.filter(metric=metric, subject=subject, resolution=resolution, at__gte=since).order_by("at")

    def readings(self, since: datetime) -> HealthSampleQuerySet:
        """Return every single reading since then, oldest first."""
        return self.filter(resolution=Resolution.READING, at__gte=since).order_by("at")


class HealthSample(models.Model):
    """No row means unknown. `subject` is "" for the whole server, else "kind:id" ("host:host-1", "account:7")."""

    metric = models.CharField(_("metric"), max_length=32)
    subject = models.CharField(_("subject"), max_length=90, blank=True)
    resolution = models.PositiveIntegerField(_("resolution"), choices=Resolution.choices, default=Resolution.READING)
    at = models.DateTimeField(_("at"))  # whole seconds; of an hour or day: its beginning (UTC)
    value = models.FloatField(_("value"))  # of an hour or day: the mean
    minimum = models.FloatField(_("lowest"))
    maximum = models.FloatField(_("highest"))
    count = models.PositiveIntegerField(_("readings"), default=1)

    #: What tells one row from another, and what it says.
    KEY = ("resolution", "at", "metric", "subject")
    VALUES = ("value", "minimum", "maximum", "count")

    objects = HealthSampleQuerySet.as_manager()

    class Meta:
        verbose_name = _("health sample")
        verbose_name_plural = _("health samples")
        constraints = [
            # In this order it serves every reading too: the last hour of all metrics, a month of one, what is old.
            models.UniqueConstraint(fields=["resolution", "at", "metric", "subject"], name="one_sample_per_moment")
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.subject} {self.value:g}"

    @property
    def span(self) -> timedelta:
        """Return the time it stands for."""
        return timedelta(seconds=self.resolution)
