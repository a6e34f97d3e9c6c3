"""Incidents in templates."""

from __future__ import annotations

from django import template

from monitoring import titles
from monitoring.models import Incident

register = template.Library()


@register.filter
def title_of(incident: Incident) -> str:
    """Return an incident's title in the language of the page."""
    return titles.shown(incident)
