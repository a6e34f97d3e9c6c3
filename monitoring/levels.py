"""Levels and severities as people see them: a word, a colour and an icon each, never the colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as lazy

from monitoring.evaluation import Level
from monitoring.models import IncidentState, Severity


@dataclass(frozen=True)
class Sign:
    """How something is shown. `icon` is a name of Material Symbols; `colour` one of live.css's."""

    word: Any
    colour: str
    icon: str


#: Complete: tests/test_cards.py.
LEVELS: Mapping[Level, Sign] = {
    Level.OK: Sign(lazy("good"), "green", "check_circle"),
    Level.WARNING: Sign(lazy("warning"), "amber", "warning"),
    Level.CRITICAL: Sign(lazy("critical"), "red", "error"),
    Level.IDLE: Sign(lazy("nothing to measure"), "grey", "pause_circle"),
    Level.PLAIN: Sign(lazy("no limit set"), "blue", "info"),
    Level.UNKNOWN: Sign(lazy("unknown"), "grey", "help"),
}

SEVERITIES: Mapping[str, Sign] = {
    Severity.WARNING: LEVELS[Level.WARNING],
    Severity.CRITICAL: LEVELS[Level.CRITICAL],
}

STATES: Mapping[str, Sign] = {
    IncidentState.OPEN: Sign(lazy("open"), "red", "notifications_active"),
    IncidentState.ACKNOWLEDGED: Sign(lazy("acknowledged"), "blue", "visibility"),
    IncidentState.RESOLVED: Sign(lazy("resolved"), "green", "check_circle"),
}
