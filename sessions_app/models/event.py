"""SessionEvent: what happened to a session, append-only."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from sessions_app.states import State
from sessions_app.whatsapp.client import Kind

#: Kinds of event that are no observation: what staff asked for, a request that was refused, and what happened to the
#: right to own a session: it ran out or was taken away, was given back at rest or to another host; or a session
#: nobody owned was marked as one to be looked at.
REQUESTED, REFUSED, LEASE_LOST, RELEASED, MARKED = "requested", "refused", "lease_lost", "released", "marked"
OWN_KINDS = (REQUESTED, REFUSED, LEASE_LOST, RELEASED, MARKED)


class SessionEvent(models.Model):
    """One observation or request: who, why, before, after, evidence. Never a QR text or a code."""

    session = models.ForeignKey("sessions_app.Session", on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(_("at"), db_index=True)
    kind = models.CharField(_("kind"), max_length=24, choices=[(k, k) for k in (*OWN_KINDS, *Kind)])
    actor = models.CharField(_("who"), max_length=150, blank=True)
    host_name = models.CharField(_("host"), max_length=80, blank=True)
    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    before = models.CharField(_("before"), max_length=12, choices=[(s, s) for s in State], blank=True)
    after = models.CharField(_("after"), max_length=12, choices=[(s, s) for s in State], blank=True)
    code = models.IntegerField(_("code"), null=True)
    reason = models.CharField(_("why"), max_length=40, blank=True)
    evidence = models.JSONField(_("evidence"), default=dict, blank=True)

    class Meta:
        verbose_name = _("session event")
        verbose_name_plural = _("session events")
        ordering = ["-id"]
        indexes = [models.Index(fields=["session", "-id"], name="event_by_session")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind}"
