"""The evidence of an incident, of whatever shape, as a page shows it: in the reader's language and on the local clock.

Rows keep plain names and values; NAMES has what a name is called, complete for all that writes evidence
(tests/test_evidence.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_lazy as lazy

from sessions_app.explanations import LABELS, moment
from sessions_app.jobs import JOBS
from sessions_app.timeline import HAPPENED

#: What a name is called.
NAMES: Mapping[str, Any] = {
    # a metric
    "value": lazy("value"), "warning": lazy("warning"), "critical": lazy("critical"),
    # a session, a host, a program, a job
    "state": lazy("state"), "reason": lazy("reason"), "code": lazy("code"), "failures": lazy("failures"),
    "host": lazy("session host"), "since": lazy("since"), "next_attempt": lazy("next attempt"),
    "machine": lazy("machine"), "process": lazy("process"), "last_heartbeat": lazy("last sign of life"),
    "starts": lazy("starts"), "minutes": lazy("minutes"), "last_exit": lazy("last end"), "crashes": lazy("crashes"),
    "next_trial": lazy("next trial"), "purpose": lazy("purpose"), "error": lazy("error"),
    # many sessions, alerts, webhooks
    "sessions": lazy("sessions"), "began": lazy("began"), "hosts": lazy("session hosts"), "accounts": lazy("accounts"),
    "count": lazy("count"), "service": lazy("service"), "waiting": lazy("waiting"), "why": lazy("why"),
    "failing_since": lazy("failing since"),
    # what an action found
    "processes": lazy("processes"), "limit_mb": lazy("limit (MB)"), "host_mb": lazy("session host (MB)"),
    "name": lazy("name"), "mb": lazy("MB"), "account": lazy("account"), "failed": lazy("failed"),
    "codes": lazy("codes"), "what": lazy("what"), "routes": lazy("routes"), "route": lazy("route"),
    "requests": lazy("requests"), "p50": lazy("half within (s)"), "p95": lazy("95 of 100 within (s)"),
    "log": lazy("log"), "queries": lazy("queries"), "statement": lazy("statement"), "longest": lazy("longest (s)"),
    "times": lazy("times"),
}  # fmt: skip
#: What the values of a name are called; others are shown as they are.
_VALUES: Mapping[str, Any] = {
    "state": {state.value: label for state, (label, _colour) in LABELS.items()}.get,
    "what": HAPPENED.get,
    "last_heartbeat": {"never": lazy("never")}.get,
    "purpose": lambda name: JOBS[name].purpose if name in JOBS else None,
}
#: Names whose value is a time.
_TIMES = {"since", "next_attempt", "last_heartbeat", "next_trial", "began", "failing_since"}


@dataclass(frozen=True)
class Fact:
    """A piece of evidence: a plain value, lines of text, or a table."""

    name: str
    value: str = ""
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def facts(evidence: Mapping[str, Any]) -> list[Fact]:
    """Return evidence of whatever shape in the three forms a page can show."""
    found = []
    for key, value in evidence.items():
        name = named(key)
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            rows = tuple(tuple(_shown(column, row.get(column)) for column in value[0]) for row in value)
            found.append(Fact(name, columns=tuple(named(column) for column in value[0]), rows=rows))
        elif isinstance(value, list):
            if value:
                found.append(Fact(name, lines=tuple(_shown(key, item) for item in value)))
        elif isinstance(value, Mapping):
            found += facts({f"{key} {inner}": item for inner, item in value.items()})
        elif value not in (None, ""):
            found.append(Fact(name, value=_shown(key, value)))
    return found


def named(key: str) -> str:
    """Return what a name is called; of one that nobody writes any more, itself."""
    return str(NAMES.get(key) or key.replace("_", " "))


def _shown(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if value is None:
        return "–"
    if key in _TIMES and (at := _time(str(value))):
        return moment(at)
    word = _VALUES[key](value) if key in _VALUES else None
    return str(value if word is None else word)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
