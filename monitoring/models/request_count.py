"""RequestCount: the API requests of one route in one minute, or hour, by one web process."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _


class Span(models.IntegerChoices):
    """Seconds a row stands for."""

    MINUTE = 60, _("minute")
    HOUR = 3600, _("hour")


class RequestCountQuerySet(models.QuerySet["RequestCount"]):
    def since(self, then: datetime) -> RequestCountQuerySet:
        """Return the minutes that began at `then` or later."""
        return self.filter(span=Span.MINUTE, at__gte=then)


class RequestCount(models.Model):
    """`buckets` counts the requests by duration: monitoring/histogram.py says how and gives percentiles."""

    at = models.DateTimeField(_("from"))
    span = models.PositiveIntegerField(_("span"), choices=Span.choices, default=Span.MINUTE)
    route = models.CharField(_("route"), max_length=120)  # method and template: "GET /api/v1/messages/{id}"
    process = models.CharField(_("process"), max_length=40, blank=True)  # "" for an hour: all of them
    count = models.PositiveIntegerField(_("requests"), default=0)
    errors = models.PositiveIntegerField(_("server errors"), default=0)
    buckets = models.JSONField(_("histogram"), default=dict)  # {bucket: count}, only those that are not empty

    #: What tells one row from another, and what it says.
    KEY = ("span", "at", "route", "process")
    VALUES = ("count", "errors", "buckets")

    objects = RequestCountQuerySet.as_manager()

    class Meta:
        verbose_name = _("request count")
        verbose_name_plural = _("request counts")
        constraints = [
            models.UniqueConstraint(fields=["span", "at", "route", "process"], name="one_count_per_route_and_span")
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.at:%Y-%m-%d %H:%M}: {self.count}"
