"""What is measured, as data: a new card is one entry here and one function that measures it.

Its source is DESIGN.md "Health". A value that is missing or old is unknown, never good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext_lazy as lazy


class Direction(StrEnum):
    """On which side of a threshold a value is bad."""

    ABOVE = "above"
    BELOW = "below"


class Kind(StrEnum):
    """What a metric or an incident is about."""

    SYSTEM = "system"  # the installation as a whole: its id is ""
    HOST = "host"
    ACCOUNT = "account"
    JOB = "job"
    PROGRAM = "program"  # a supervised process: its id is "name (machine)"
    CHANNEL = "channel"  # an alert channel
    CODE = "code"  # a cause common to many sessions: its id is the code


class Action(StrEnum):
    """What is done by itself when a threshold is crossed; monitoring/actions.py has how."""

    NONE = ""
    RESTART_HOST = "restart_host"
    INVESTIGATE = "investigate"
    PERFORMANCE_CHECK = "performance_check"
    NOTIFY = "notify"


@dataclass(frozen=True)
class Default:
    """The threshold a fresh installation has."""

    warning: float
    critical: float
    action: Action


@dataclass(frozen=True)
class Metric:
    """One thing that can be measured.

    `measure` is the dotted path of `f(moment: Moment) -> Mapping[str, float | None]`: subject id -> value, None where
    it cannot be told. `per_account`: a threshold may be set for one account, which is then measured by itself.
    """

    name: str
    label: Any
    unit: Any
    order: int  # of its card on the admin index; 0 has no card
    measure: str
    definition: Any
    direction: Direction = Direction.ABOVE
    kind: Kind = Kind.SYSTEM
    decimals: int = 0
    per_account: bool = False
    incidents: bool = True  # False: monitoring/causes.py tells the incidents, each with its subject
    default: Default | None = None

    def shown(self, value: float | None) -> str:
        """Return a value with its unit, as people read it."""
        if value is None:
            return "–"
        return f"{value:.{self.decimals}f} {self.unit}".strip()

    def limit(self, value: float) -> str:
        """Return a limit with its unit, no longer than it has to be."""
        return f"{value:g} {self.unit}".strip()


_ALL = (
    Metric("memory_usage", lazy("Memory"), "%", 1, "monitoring.measuring.memory.memory_usage",
           lazy("Memory of all waserver processes on this machine, as a share of what they may use."),
           default=Default(80, 95, Action.RESTART_HOST)),
    Metric("error_rate", lazy("Error rate"), "%", 2, "monitoring.measuring.operations.error_rate",
           lazy("Failed share of all operations of the last 5 minutes (API requests, messages sent, connection "
                "attempts), once there are 20."),
           decimals=1, per_account=True, default=Default(5, 10, Action.INVESTIGATE)),
    Metric("response_time", lazy("Response time"), "s", 3, "monitoring.measuring.requests.response_time",
           lazy("95 of 100 API requests of the last 5 minutes were answered within this time."),
           decimals=2, default=Default(3, 5, Action.PERFORMANCE_CHECK)),
    Metric("failed_requests", lazy("Failed requests"), lazy("per hour"), 4,
           "monitoring.measuring.operations.failed_requests",
           lazy("API requests answered with a server error and failed requests to WhatsApp in the last 60 minutes."),
           per_account=True, default=Default(10, 50, Action.NOTIFY)),
    Metric("sessions_offline", lazy("Sessions not connected"), "%", 5, "monitoring.measuring.sessions.offline",
           lazy("Share of the paired sessions that should be online and are not connected."),
           decimals=1, incidents=False, default=Default(5, 20, Action.NONE)),
    Metric("hosts_silent", lazy("Silent hosts"), "%", 6, "monitoring.measuring.processes.hosts_silent",
           lazy("Share of the session hosts that gave no sign of life within the length of a lease and were not "
                "stopped."),
           incidents=False, default=Default(0, 40, Action.NONE)),
    Metric("live_back_age", lazy("Cluster"), "s", 7, "monitoring.measuring.processes.live_back_age",
           lazy("Seconds since live_back last ran: beyond 90 the cluster has stopped or is overloaded."),
           incidents=False, default=Default(60, 90, Action.NONE)),
    Metric("backlog", lazy("Backlog"), "", 8, "monitoring.measuring.backlog.backlog",
           lazy("Messages that wait to be sent and webhook calls that wait to be delivered."),
           default=Default(1000, 10000, Action.NONE)),
)  # fmt: skip

#: Name -> metric, in the order of their cards.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
