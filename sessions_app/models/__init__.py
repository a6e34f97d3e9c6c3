"""The live connection of each account, as rows."""

from sessions_app.models.command import SessionCommand, Verb
from sessions_app.models.event import SessionEvent
from sessions_app.models.fleet_cause import FleetCause
from sessions_app.models.host import Host, HostEvent
from sessions_app.models.job import Job
from sessions_app.models.retry_rule import RetryRule
from sessions_app.models.session import Session

__all__ = ["FleetCause", "Host", "HostEvent", "Job", "RetryRule", "Session", "SessionCommand", "SessionEvent", "Verb"]
