"""SlowQuery: a database statement that took longer than SLOW_QUERY, without its parameters."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class SlowQuery(models.Model):
    """One statement in one minute of one process."""

    at = models.DateTimeField(_("minute"), db_index=True)
    process = models.CharField(_("process"), max_length=40, blank=True)
    statement = models.TextField(_("statement"))
    count = models.PositiveIntegerField(_("times"), default=1)
    worst = models.FloatField(_("longest (s)"))

    class Meta:
        verbose_name = _("slow query")
        verbose_name_plural = _("slow queries")
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.worst:.2f} s: {self.statement[:80]}"
