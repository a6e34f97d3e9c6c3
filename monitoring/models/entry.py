"""IncidentEntry: one line of an incident's timeline, append-only."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from monitoring.wording import in_mine


class EntryKind(models.TextChoices):
    """What happened to an incident."""

    OPENED = "opened", _("opened")
    REOPENED = "reopened", _("opened again")
    ESCALATED = "escalated", _("became critical")
    ACKNOWLEDGED = "acknowledged", _("acknowledged")
    ASSIGNED = "assigned", _("assigned")
    NOTE = "note", _("note")
    FOLDED = "folded", _("folded into another incident")
    ACTION = "action", _("action")
    ALERT = "alert", _("alert")
    RESOLVED = "resolved", _("resolved")


class IncidentEntry(models.Model):
    """`who` is a user's name, or "" when the server did it by itself."""

    incident = models.ForeignKey("monitoring.Incident", on_delete=models.CASCADE, related_name="entries")
    at = models.DateTimeField(_("at"))
    kind = models.CharField(_("kind"), max_length=16, choices=EntryKind.choices)
    #: As who wrote it said it; `shown_text` for people.
    text = models.TextField(_("text"), blank=True)
    #: Language -> the text in it; empty where a person wrote it.
    texts = models.JSONField(default=dict, editable=False)
    who = models.CharField(_("who"), max_length=150, blank=True)
    evidence = models.JSONField(_("evidence"), default=dict, blank=True)

    class Meta:
        verbose_name = _("incident entry")
        verbose_name_plural = _("incident entries")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind}"

    @property
    def shown_text(self) -> str:
        """Return its text in the language of whoever looks at it."""
        return in_mine(self.texts, self.text)
