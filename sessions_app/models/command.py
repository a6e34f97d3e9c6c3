"""SessionCommand: a one-shot request to the host that owns a session."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Verb(models.TextChoices):
    """What can be asked."""

    START = "start", _("start")
    RESTART = "restart", _("restart")
    PAIR = "pair", _("pair")
    CANCEL_PAIRING = "cancel_pairing", _("cancel pairing")
    LOGOUT = "logout", _("log out")


class SessionCommand(models.Model):
    """Finished exactly once, by the host; `error` is a sentence when it failed."""

    session = models.ForeignKey("sessions_app.Session", on_delete=models.CASCADE, related_name="commands")
    verb = models.CharField(_("verb"), max_length=16, choices=Verb.choices)
    arguments = models.JSONField(_("arguments"), default=dict, blank=True)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    requester = models.CharField(_("requested by"), max_length=150)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, db_index=True)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        verbose_name = _("session command")
        verbose_name_plural = _("session commands")
        ordering = ["id"]
        indexes = [models.Index(fields=["finished_at", "session"], name="command_open")]

    def __str__(self) -> str:
        return f"{self.verb} {self.session_id}"

    def finish(self, now: datetime, error: str = "") -> None:
        """Close it."""
        self.finished_at, self.error = now, error
        self.save(update_fields=["finished_at", "error"])
