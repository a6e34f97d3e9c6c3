"""What runs on this machine, in numbers: for `manage.py server status`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import psutil
from django.db import DatabaseError
from django.db.models import Count, Q

from sessions_app.models import Host
from sessions_app.states import State
from waserver import tree
from waserver.guard import SUPERVISORD
from waserver.program_record import Record
from waserver.rpc import Info


@dataclass(frozen=True)
class Line:
    """One program. Memory in bytes, with its children's, what they share counted once; uptime in seconds."""

    name: str
    state: str
    pid: int
    uptime: float | None
    memory: int
    restarts: int
    crashes: int  # of the last day
    last_exit: str
    retry_at: datetime | None
    sessions: int | None  # a host's: owned
    connected: int | None
    region: str  # a host's label

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return asdict(self)


def lines(programs: list[Info], now: datetime) -> list[Line]:
    """Return supervisord and its programs; what the database would add is left out when it does not answer."""
    records, owned = tree.records(), _owned()
    process = tree.supervisord()
    found = [_line(info, records.get(info.name, Record()), owned.get(info.name), now) for info in programs]
    if process is not None:
        began = datetime.fromtimestamp(process.create_time(), now.tzinfo)
        info = Info(SUPERVISORD, "running", process.pid, began, 0, "")
        found.insert(0, _line(info, records.get(SUPERVISORD, Record()), None, now, children=False))
    return found


def _line(info: Info, record: Record, owned: tuple[int, int, str] | None, now: datetime, children: bool = True) -> Line:
    # A rest is the guard's doing: supervisord calls it stopped.
    state = "fatal" if info.state == "stopped" and record.retry_at else info.state
    day_ago = (now - timedelta(days=1)).timestamp()
    return Line(
        info.name, state, info.pid, (now - info.started_at).total_seconds() if info.started_at else None,
        _memory(info.pid, children), record.restarts if info.name != SUPERVISORD else record.starts,
        sum(at > day_ago for at in record.crashes), record.last_exit,
        datetime.fromtimestamp(record.retry_at, now.tzinfo) if record.retry_at else None,
        *(owned or (None, None, "")),
    )  # fmt: skip


def _owned() -> dict[str, tuple[int, int, str]]:
    """Return for each host of this machine how many sessions it owns, how many of those are connected, its region."""
    hosts = Host.objects.filter(machine=tree.machine()).annotate(
        held=Count("owned"), up=Count("owned", filter=Q(owned__state=State.CONNECTED))
    )
    try:
        return {name: (held, up, at) for name, held, up, at in hosts.values_list("name", "held", "up", "region")}
    except DatabaseError:
        return {}


def _memory(pid: int, children: bool) -> int:
    try:
        process = psutil.Process(pid) if pid else None
        family = [process, *(process.children(recursive=True) if children else [])] if process else []
        return sum(one.memory_full_info().pss for one in family)
    except psutil.Error:
        return 0
