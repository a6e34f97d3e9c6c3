"""What a chaos run may not have done: judged from the simulator's log-in times, the events, and the hosts' audits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessions_app.models import SessionEvent
    from tests.installation import Installation
    from tests.wasim.device import Device

#: Seconds a clock reading and the way through a socket may differ.
_SLACK = 0.05
#: Seconds between the end of a client and the last log-in that was already under way.
_UNDER_WAY = 1.0
#: Seconds a process that wakes up from a pause needs to see that its leases are gone.
_WAKE = 0.3


@dataclass
class Pause:
    """A process was stopped from `since` to `until` (seconds since 1970; None: still)."""

    host: str
    since: float
    until: float | None = None


def verdict(installation: Installation, pauses: list[Pause]) -> tuple[dict[str, Any], list[str]]:
    """Return figures about the run, and what was wrong with it. Call it when all processes have ended."""
    from sessions_app.models import FleetCause, Session, SessionEvent

    assert installation.sim is not None
    problems: list[str] = []
    logins = doubled = 0
    for row in Session.objects.select_related("account"):
        events = sorted(SessionEvent.objects.filter(session=row), key=lambda event: (event.at, event.pk))
        devices = installation.sim.server.of(row.account.phone or "")
        problems += [f"{row}: {text}" for text in early(events)]
        for device in devices:
            logins += device.logins
            doubled += len(device.doubled_at)
            problems += [f"{row}: {text}" for text in unasked(events, device)]
            problems += [f"{row}: two sockets at once at {at:.2f}" for at in device.doubled_at
                         if not _paused(at, pauses)]  # fmt: skip
    observed, lost = audited(installation)
    problems += lost
    figures = {
        "failures": _failures(), "fleet_causes": FleetCause.objects.count(), "events": SessionEvent.objects.count(),
        "observations": observed, "lost": len(lost), "log_ins": logins, "doubled_by_paused_hosts": doubled,
    }  # fmt: skip
    return figures, problems


def _failures() -> dict[str, int]:
    from django.db.models import Count

    from sessions_app.fleet_watch import FAILURES
    from sessions_app.models import SessionEvent

    found = SessionEvent.objects.filter(kind__in=FAILURES).order_by().values_list("kind", "reason", "code")
    return {f"{kind} {reason} {code}": count for kind, reason, code, count in found.annotate(Count("pk"))}


def early(events: list[SessionEvent]) -> Iterator[str]:
    """Say which client was started earlier than the policy allowed."""
    from sessions_app.fleet_watch import FAILURES

    earliest: datetime | None = None
    code = None
    for position, event in enumerate(events):
        if event.kind in FAILURES:
            earliest, code = _time(event.evidence.get("retry_at")), event.code
        elif (
            event.kind in ("reset", "pair_started")
            or (event.kind == "requested" and event.reason != "stop")
            # Asked for while it was connecting, and carried out after that had failed.
            or (event.kind == "stopped" and event.reason == "restart")
        ):
            earliest = None  # staff want it now
        elif event.kind == "starting":
            # 405 is the one wait that ends early: when the fleet's one trial was accepted.
            if earliest is not None and code != 405 and (earliest - event.at).total_seconds() > _SLACK:
                story = events[max(0, position - 6) : position]
                before = " ".join(f"{e.kind}/{e.reason}/{e.host_name}@{e.at:%S.%f}" for e in story)
                yield f"started at {event.at} though the policy said {earliest}: {before}"
            earliest = None


def unasked(events: list[SessionEvent], device: Device) -> Iterator[str]:
    """Say which log-in came from no client that we had started, or from one that was over."""
    from sessions_app.fleet_watch import FAILURES

    starts = [event.at.timestamp() for event in events if event.kind == "starting"]
    ends = [event.at.timestamp() for event in events if event.kind in FAILURES | {"logged_out", "stopped"}]
    for at in device.login_times:
        start = max((s for s in starts if s <= at + _SLACK), default=None)
        if start is None:
            yield f"a log-in at {at:.2f} that no client of ours explains"
        elif any(start < end < at - _UNDER_WAY for end in ends):
            yield f"a log-in at {at:.2f} of a client that had ended"


def audited(installation: Installation) -> tuple[int, list[str]]:
    """Return how many observations the hosts made, and which of them are in no row.

    One whose lease was lost meanwhile may not be written: that is what the epoch is for.
    """
    from sessions_app.host.journal import load
    from sessions_app.models import SessionEvent

    rows = set(SessionEvent.objects.values_list("session", "epoch", "kind", "at"))
    fenced = set(SessionEvent.objects.filter(kind="lease_lost").values_list("session", "epoch"))
    observed, lost = 0, []
    for file in sorted(installation.folder.glob("audit-*")):
        for line in file.read_bytes().splitlines():
            try:
                noted = load(line)
            except ValueError:  # a line in the middle of which the host was killed
                continue
            observed += 1
            known = (noted.session_id, noted.epoch, noted.seen.kind.value, noted.seen.at) in rows
            if not known and (noted.session_id, noted.epoch) not in fenced:
                lost.append(f"lost: {noted} of {file.name}")
    return observed, lost


def _paused(at: float, pauses: list[Pause]) -> bool:
    return any(p.host.startswith("host-") and p.since <= at <= (p.until or at) + _WAKE for p in pauses)


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
