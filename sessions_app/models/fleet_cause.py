"""FleetCause: one cause for the failures of many sessions."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from sessions_app import fleet

#: After this a cause that ended says nothing about a session any more.
_RELEVANT = timedelta(minutes=15)


class FleetCauseQuerySet(models.QuerySet["FleetCause"]):
    def ongoing(self) -> FleetCauseQuerySet:
        """Those at work."""
        return self.filter(ended_at=None)

    def relevant(self, now: datetime) -> list[fleet.Cause]:
        """Return, in the rule's terms, those at work and those that ended lately. One query."""
        rows = self.filter(models.Q(ended_at=None) | models.Q(ended_at__gt=now - _RELEVANT)).order_by("began_at")
        return [row.cause for row in rows]


class FleetCause(models.Model):
    """While it has no end, of the sessions that failed with its code only `trial` may start."""

    code = models.PositiveIntegerField(_("code"))  # 0: no code, e.g. the network is gone
    #: The same while it lasts, then null: at most one per code, by the unique index.
    open_code = models.PositiveIntegerField(null=True, unique=True)
    began_at = models.DateTimeField(_("began"))
    ended_at = models.DateTimeField(_("ended"), null=True, db_index=True)
    outcome = models.CharField(_("how it ended"), max_length=24, blank=True)
    affected = models.PositiveIntegerField(_("sessions affected"), default=0)
    trial = models.ForeignKey(
        "sessions_app.Session", on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("trial session")
    )
    trial_at = models.DateTimeField(_("last trial"), null=True)
    library = models.CharField(_("library version"), max_length=40, blank=True)

    objects = FleetCauseQuerySet.as_manager()

    class Meta:
        verbose_name = _("fleet cause")
        verbose_name_plural = _("fleet causes")
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"{self.code or _('no code')} · {self.began_at:%Y-%m-%d %H:%M:%S}"

    @property
    def cause(self) -> fleet.Cause:
        """Return it in the rule's terms."""
        return fleet.Cause(self.pk, self.code, self.ended_at, self.trial_id, self.affected, self.library)

    # Each of these is one conditional statement: of several processes that decide the same, one succeeds.

    def choose_trial(self, session: int | None) -> bool:
        """Make another session the one that may start."""
        return FleetCause.objects.filter(pk=self.pk, ended_at=None, trial=self.trial_id).update(trial=session) == 1

    def close(self, now: datetime, outcome: str) -> bool:
        """Let the others go."""
        return FleetCause.objects.filter(pk=self.pk, ended_at=None).update(
            ended_at=now, open_code=None, outcome=outcome
        ) == 1  # fmt: skip


def begin_trial(cause: int, session: int, now: datetime) -> bool:
    """Return whether this session is the one that may start, now; asked right before its start."""
    return FleetCause.objects.filter(pk=cause, ended_at=None, trial=session).update(trial_at=now) == 1
