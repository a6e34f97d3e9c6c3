"""Host: a process that owns WhatsApp sockets. HostEvent: what was asked of it, by whom and why."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models, transaction
from django.db.models import Count, F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class HostQuerySet(models.QuerySet["Host"]):
    def live(self, now: datetime) -> HostQuerySet:
        """Those whose heartbeat is younger than a lease and that were not ended on purpose."""
        return self.filter(heartbeat_at__gt=now - settings.LEASE, ended_at=None)

    def taking(self, now: datetime) -> HostQuerySet:
        """The live ones that take sessions: neither draining nor about to restart."""
        return self.live(now).filter(draining=False, restart_requested_at=None)

    def loads(self) -> dict[int, tuple[int, int]]:
        """Return (capacity, sessions owned) by host id. One query."""
        rows = self.annotate(load=Count("owned")).values_list("pk", "capacity", "load")
        return {pk: (capacity, load) for pk, capacity, load in rows}


class Host(models.Model):
    """One session host; its name stays the same over restarts."""

    name = models.CharField(_("name"), max_length=80, unique=True)
    machine = models.CharField(_("machine"), max_length=120, blank=True)
    #: Where it runs, in the operator's words: shown and filtered by, and nothing is decided by it.
    region = models.CharField(_("region"), max_length=40, blank=True)
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
    #: Asked by staff: takes no sessions and gives those it has to hosts with room. Kept over restarts.
    draining = models.BooleanField(_("draining"), default=False)
    #: The host that sees this gives its sessions away, ends, and is started again by whatever supervises it.
    restart_requested_at = models.DateTimeField(_("restart requested"), null=True)
    restart_requested_by = models.CharField(_("restart requested by"), max_length=150, blank=True)
    restart_reason = models.CharField(_("why it restarts"), max_length=200, blank=True)

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

    # -- what may be asked of it

    def request_restart(self, by: object, reason: str = "") -> bool:
        """Have it end gracefully and be started again; seen at its next renewal, within 10 s.

        Its sessions go to other hosts while those have room, else they come back with the new process. False when it
        does not run or a restart was asked for before: then nothing was changed.
        """
        now = timezone.now()
        with transaction.atomic():
            changed = Host.objects.live(now).filter(pk=self.pk, restart_requested_at=None).update(
                restart_requested_at=now, restart_requested_by=str(by)[:150], restart_reason=reason[:200]
            )  # fmt: skip
            if changed:
                self.note(HostEvent.RESTART, by, reason)
        return bool(changed)

    def drain(self, by: object, reason: str = "") -> bool:
        """Have it take no sessions any more and give away those it has; False when it does so already."""
        return self._set_draining(True, by, reason)

    def undrain(self, by: object, reason: str = "") -> bool:
        """Have it take part again; False when it does so already."""
        return self._set_draining(False, by, reason)

    def _set_draining(self, draining: bool, by: object, reason: str) -> bool:
        with transaction.atomic():
            changed = Host.objects.filter(pk=self.pk, draining=not draining).update(draining=draining)
            if changed:
                self.note(HostEvent.DRAIN if draining else HostEvent.UNDRAIN, by, reason)
        return bool(changed)

    def note(self, kind: str, by: object, reason: str = "") -> None:
        """Write down what happened to it."""
        HostEvent.objects.create(host=self, at=timezone.now(), kind=kind, actor=str(by)[:150], reason=reason[:200])


class HostEvent(models.Model):
    """One thing that was asked of a host or happened to it: when, what, who, why. Append-only."""

    STARTED, ENDED, RESTART, DRAIN, UNDRAIN = "started", "ended", "restart", "drain", "undrain"

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(_("at"), db_index=True)
    kind = models.CharField(
        _("what"), max_length=16,
        choices=[(STARTED, _("started")), (ENDED, _("ended")), (RESTART, _("restart asked for")),
                 (DRAIN, _("asked to give its sessions away")), (UNDRAIN, _("asked to take part again"))],
    )  # fmt: skip
    actor = models.CharField(_("who"), max_length=150, blank=True)
    reason = models.CharField(_("why"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("host event")
        verbose_name_plural = _("host events")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind}"
