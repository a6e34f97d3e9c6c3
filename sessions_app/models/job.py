"""Job: what is done regularly on the cluster, and how its last run went. The schedule itself is django-q2's."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _


class Job(models.Model):
    """One row per job of `jobs.JOBS`."""

    name = models.CharField(_("name"), max_length=40, primary_key=True)
    last_run_at = models.DateTimeField(_("last run"), null=True)
    duration = models.DurationField(_("duration"), null=True)
    counts = models.JSONField(_("counts"), default=dict)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def is_late(self, now: datetime, patience: timedelta) -> bool:
        """Return whether it did not run within `patience`: then the cluster has stopped."""
        return self.last_run_at is None or now - self.last_run_at > patience
