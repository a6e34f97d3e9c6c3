"""Incident: something that is bad, from when until when, how bad, and what was done about it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.metrics import Kind
from monitoring.models.entry import EntryKind, IncidentEntry
from monitoring.wording import Words, filled, in_each_language, in_mine, later

#: What returns within this time continues the incident it was.
REOPEN_WITHIN = timedelta(minutes=10)


class Severity(models.TextChoices):
    """How bad it is."""

    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")


class IncidentState(models.TextChoices):
    """Where an incident stands."""

    OPEN = "open", _("open")
    ACKNOWLEDGED = "acknowledged", _("acknowledged")
    RESOLVED = "resolved", _("resolved")


class IncidentQuerySet(models.QuerySet["Incident"]):
    def unresolved(self) -> IncidentQuerySet:
        """Those that are open or acknowledged."""
        return self.exclude(state=IncidentState.RESOLVED)

    def roots(self) -> IncidentQuerySet:
        """Those that are not folded into another."""
        return self.filter(parent=None)

    def latest_of(self, metric: str, kind: str, subject: str) -> Incident | None:
        """Return the newest incident of one thing, open or not."""
        return self.filter(metric=metric, subject_kind=kind, subject_id=subject).order_by("-id").first()


class Incident(models.Model):
    """`metric` is the name of a metric (metrics.METRICS) or of a cause (causes.CAUSES)."""

    metric = models.CharField(_("what"), max_length=32)
    subject_kind = models.CharField(
        _("about"), max_length=12, choices=[(k.value, k.value) for k in Kind], default=Kind.SYSTEM.value
    )
    subject_id = models.CharField(max_length=80, blank=True)
    subject_label = models.CharField(_("subject"), max_length=120, blank=True)
    #: As the process that opened it says it; `shown_title` for people.
    title = models.CharField(_("title"), max_length=200)
    #: Language -> the title in it.
    titles = models.JSONField(default=dict, editable=False)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity.choices)
    state = models.CharField(_("state"), max_length=12, choices=IncidentState.choices, default=IncidentState.OPEN)
    opened_at = models.DateTimeField(_("opened"), db_index=True)
    last_breach_at = models.DateTimeField(_("last seen"))
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="incidents",
        verbose_name=_("assignee"),
    )  # fmt: skip
    evidence = models.JSONField(_("evidence"), default=dict, blank=True)
    #: The incident that has the same cause: this one is shown under it and alerts nobody.
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="folded")
    #: To be told at once, quiet hours or not.
    urgent = models.BooleanField(_("immediate attention"), default=False)
    #: metric|kind|id while it is not resolved, else NULL: at most one open per (metric, subject), on every database.
    open_key = models.CharField(max_length=140, unique=True, null=True, editable=False)  # noqa: DJ001

    objects = IncidentQuerySet.as_manager()

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-opened_at", "-id"]
        indexes = [models.Index(fields=["metric", "subject_kind", "subject_id", "-id"], name="incident_by_subject")]
        permissions = [("handle_incident", "Can acknowledge, assign, comment and resolve incidents")]

    def __str__(self) -> str:
        return self.title

    @property
    def shown_title(self) -> str:
        """Return its title in the language of whoever looks at it."""
        return in_mine(self.titles, self.title)

    @property
    def is_open(self) -> bool:
        """Return whether it is not resolved."""
        return self.state != IncidentState.RESOLVED

    def lasted(self, now: datetime) -> timedelta:
        """Return how long it has lasted."""
        return (self.resolved_at or now) - self.opened_at

    # -- what evaluation does

    @classmethod
    def open(cls, metric: str, kind: str, subject: str, label: str, title: Words, severity: Severity, now: datetime,
             evidence: dict[str, Any], parent: Incident | None = None) -> tuple[Incident, EntryKind]:  # fmt: skip
        """Open one, or continue the one resolved less than 10 minutes ago; return it and which of both it was.

        Raises IntegrityError when another run has just opened it.
        """
        key = f"{metric}|{kind}|{subject}"
        old = cls.objects.latest_of(metric, kind, subject)
        if old is not None and not old.is_open and old.resolved_at and now - old.resolved_at < REOPEN_WITHIN:
            incident, change = old, EntryKind.REOPENED
            incident.state, incident.resolved_at = IncidentState.OPEN, None
            incident.acknowledged_at = incident.acknowledged_by = None
        else:
            incident = cls(metric=metric, subject_kind=kind, subject_id=subject, opened_at=now)
            change = EntryKind.OPENED
        incident.subject_label, incident.severity = label[:120], severity
        incident._entitle(title)
        incident.last_breach_at, incident.evidence, incident.parent, incident.open_key = now, evidence, parent, key
        with transaction.atomic():
            incident.save()
            incident.record(change, now, text=title)
        return incident, change

    def seen(self, at: datetime, evidence: dict[str, Any]) -> None:
        """It is still bad."""
        self.last_breach_at, self.evidence = at, {**self.evidence, **evidence}
        self.save(update_fields=["last_breach_at", "evidence"])

    def fold_into(self, parent: Incident, now: datetime) -> None:
        """Show it under the incident that explains it."""
        self.parent = parent
        self.save(update_fields=["parent"])
        self.record(EntryKind.FOLDED, now, text=later(lambda: parent.shown_title)())

    def escalate(self, now: datetime, title: Words) -> None:
        """From warning to critical."""
        self.severity = Severity.CRITICAL
        self._entitle(title)
        self.save(update_fields=["severity", "title", "titles"])
        self.record(EntryKind.ESCALATED, now, text=title)

    def end(self, now: datetime, text: Words = "", who: str = "") -> None:
        """Resolve it; what was folded into it stands for itself again until it is resolved too."""
        self.state, self.resolved_at, self.open_key = IncidentState.RESOLVED, now, None
        self.save(update_fields=["state", "resolved_at", "open_key"])
        self.record(EntryKind.RESOLVED, now, text=text, who=who)

    def record(self, kind: EntryKind, now: datetime, text: Words = "", who: str = "",
               evidence: dict[str, Any] | None = None) -> IncidentEntry:  # fmt: skip
        """Add a line to the timeline."""
        return self.entries.create(at=now, kind=kind, text=str(text), texts=in_each_language(text), who=who,
                                   evidence=evidence or {})  # fmt: skip

    def _entitle(self, title: Words) -> None:
        self.title, self.titles = str(title)[:200], in_each_language(title)

    # -- what staff do

    def acknowledge(self, by: User) -> bool:
        """Say that somebody looks at it; False when it was not open any more."""
        now = timezone.now()
        changed = Incident.objects.filter(pk=self.pk, state=IncidentState.OPEN).update(
            state=IncidentState.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by
        )
        if changed:
            self.refresh_from_db()
            self.record(EntryKind.ACKNOWLEDGED, now, who=by.get_username())
        return changed == 1

    def assign(self, to: User | None, by: User) -> None:
        """Make `to` responsible for it; None: nobody."""
        self.assignee = to
        self.save(update_fields=["assignee"])
        text = filled(_("to %(name)s"), {"name": to.get_username()}) if to else _("to nobody")
        self.record(EntryKind.ASSIGNED, timezone.now(), text=text, who=by.get_username())

    def add_note(self, text: str, by: User) -> None:
        """Write a note into the timeline."""
        self.record(EntryKind.NOTE, timezone.now(), text=text, who=by.get_username())

    def resolve(self, by: User, text: str = "") -> bool:
        """End it by hand; it opens again when the next readings are still bad. False when it was resolved already."""
        with transaction.atomic():
            row = Incident.objects.select_for_update().get(pk=self.pk)
            if not row.is_open:
                return False
            row.end(timezone.now(), text, by.get_username())
        self.refresh_from_db()
        return True
