"""Program: one supervised process of one machine, as its guard sees it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _


class ProgramQuerySet(models.QuerySet["Program"]):
    def fatal(self) -> ProgramQuerySet:
        """Those in a crash loop, left alone until `retry_at`."""
        return self.filter(state="fatal")


class Program(models.Model):
    """Written by `manage.py server record` on its machine, whenever something changed there."""

    machine = models.CharField(_("machine"), max_length=120)
    name = models.CharField(_("program"), max_length=80)
    state = models.CharField(_("state"), max_length=12)
    pid = models.PositiveIntegerField(_("process id"), default=0)
    started_at = models.DateTimeField(_("started"), null=True)
    restarts = models.PositiveIntegerField(_("restarts"), default=0, help_text=_("Since the server was started."))
    crashes = models.JSONField(default=list)  # ISO times of the last unexpected ends
    last_crash_at = models.DateTimeField(_("last crash"), null=True)
    last_exit = models.CharField(_("how it last ended"), max_length=120, blank=True)
    retry_at = models.DateTimeField(_("next trial"), null=True)
    recorded_at = models.DateTimeField(_("recorded"))

    objects = ProgramQuerySet.as_manager()

    class Meta:
        verbose_name = _("program")
        verbose_name_plural = _("programs")
        ordering = ["machine", "name"]
        constraints = [models.UniqueConstraint(fields=["machine", "name"], name="program_once_per_machine")]

    def __str__(self) -> str:
        return f"{self.name} ({self.machine})"

    def crashes_since(self, now: datetime, within: timedelta) -> int:
        """Return how often it ended unexpectedly within this time."""
        return sum(1 for at in self.crashes if now - datetime.fromisoformat(at) <= within)
