"""Host: a process that owns WhatsApp sockets."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _


class HostQuerySet(models.QuerySet["Host"]):
    def live(self, now: datetime) -> HostQuerySet:
        """Those whose heartbeat is younger than a lease and that were not ended on purpose."""
        return self.filter(heartbeat_at__gt=now - settings.LEASE, ended_at=None)


class Host(models.Model):
    """One session host; its name stays the same over restarts."""

    name = models.CharField(_("name"), max_length=80, unique=True)
    machine = models.CharField(_("machine"), max_length=120, blank=True)
    pid = models.IntegerField(_("process id"), default=0)
    boot = models.CharField(max_length=40, blank=True, help_text=_("Which run of the process this is."))
    version = models.CharField(_("version"), max_length=40, blank=True)
    capacity = models.PositiveIntegerField(_("capacity"), default=50)
    sessions = models.PositiveIntegerField(_("clients"), default=0)
    rss = models.BigIntegerField(_("memory (bytes)"), default=0)
    fds = models.PositiveIntegerField(_("open files"), default=0)
    started_at = models.DateTimeField(_("started"), null=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)

    objects = HostQuerySet.as_manager()

    class Meta:
        verbose_name = _("host")
        verbose_name_plural = _("hosts")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def is_live(self, now: datetime) -> bool:
        """Return whether it gave a sign of life within the length of a lease."""
        return self.ended_at is None and self.heartbeat_at is not None and now - self.heartbeat_at < settings.LEASE

    def release_all(self, now: datetime) -> int:
        """Give every session back, to be claimed at once; return their number."""
        return self.owned.update(host=None, lease_expires_at=None, due_at=now, version=F("version") + 1)
