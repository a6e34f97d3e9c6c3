"""Sending a time range of events again: asked for on a webhook's page, counted, confirmed, done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from messaging.models import Event
from sessions_app.explanations import moment


class RangeForm(forms.Form):
    """From when to when, in the server's time zone; the end is not part of it."""

    since = forms.DateTimeField(label=lazy("From"))
    until = forms.DateTimeField(label=lazy("Until (empty: now)"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for field in self.fields.values():
            # The browser's own calendar: it can be used from the keyboard, and sends what Django reads.
            field.widget = forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M")

    def clean_since(self) -> datetime:
        """Refuse what is not over or no longer kept."""
        since: datetime = self.cleaned_data["since"]
        now = timezone.now()
        if since >= now:
            raise forms.ValidationError(_("The beginning is in the future."))
        if since < now - settings.EVENT_RETENTION:
            raise forms.ValidationError(
                _("Events are kept for %(days)d days: choose a beginning after %(earliest)s.")
                % {"days": settings.EVENT_RETENTION.days, "earliest": moment(now - settings.EVENT_RETENTION)}
            )
        return since

    def clean_until(self) -> datetime:
        """Return the end: now when none was chosen."""
        until: datetime | None = self.cleaned_data["until"]
        now = timezone.now()
        if until is not None and until > now:
            raise forms.ValidationError(_("The end is in the future: leave it empty for everything up to now."))
        return until or now

    def clean(self) -> dict[str, Any]:
        """Refuse an end before the beginning."""
        given = super().clean() or self.cleaned_data
        if "since" in given and "until" in given and given["until"] <= given["since"]:
            self.add_error("until", _("The end must be after the beginning."))
        return given

    @property
    def events(self) -> QuerySet[Event]:
        """Return what happened in it, for whomever."""
        return Event.objects.filter(at__gte=self.cleaned_data["since"], at__lt=self.cleaned_data["until"])
