"""Memory: what all processes of this installation hold on this machine, and what they may hold."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings

from monitoring.measuring.moment import Measured, Moment

_CGROUP = Path("/sys/fs/cgroup/memory.max")
#: Words in the command line of our programs, and what each is called.
_PROGRAMS = {
    "run_session_host": "host", "qcluster": "cluster", "waserver.asgi:application": "web", "supervisord": "supervisor",
    "manage.py": "command",
}  # fmt: skip


@dataclass(frozen=True)
class Process:
    """One process of ours: its id, what it is, and its resident memory in bytes."""

    pid: int
    name: str
    rss: int


def memory_usage(moment: Moment) -> Measured:
    """Return the share of the limit in use, in percent."""
    return {"": 100 * sum(process.rss for process in processes()) / limit()}


def limit() -> int:
    """Return the bytes we may use: MEMORY_LIMIT_MB, else the container's limit (cgroup v2), else the machine's."""
    total: int = settings.MEMORY_LIMIT or psutil.virtual_memory().total
    if not settings.MEMORY_LIMIT:
        with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or "max"
            total = min(total, int(_CGROUP.read_text()))
    return total


def processes() -> list[Process]:
    """Return the processes of this installation on this machine, with their children."""
    found: dict[int, Process] = {}
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    ours: list[tuple[str, psutil.Process]] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or is not ours to look into
            command = process.cmdline()
            if not command:  # a thread of the kernel: most of what a large machine lists
                continue
            children[process.ppid()].append(process)
            if (name := _program(command)) and _ours(process):
                ours.append((name, process))
    for name, process in ours:
        family = [process]
        for one in family:
            family += children[one.pid]
        for one in family:
            with contextlib.suppress(psutil.Error):
                label = name if one.pid == process.pid else _program(one.cmdline()) or f"{name}, child"
                found.setdefault(one.pid, Process(one.pid, label, one.memory_info().rss))
    return sorted(found.values(), key=lambda process: -process.rss)


def _ours(process: psutil.Process) -> bool:
    """Return whether a process that runs a program of ours is of this installation."""
    if process.uids().real != os.getuid() or Path(process.cwd()) != Path(settings.BASE_DIR):
        return False
    # Another installation may run from the same folder, with a VAR_DIR of its own.
    folder = process.environ().get("VAR_DIR")
    return folder is None or Path(folder).resolve() == settings.VAR_DIR


def _program(command: list[str]) -> str:
    words = {os.path.basename(word) for word in command}
    return next((name for word, name in _PROGRAMS.items() if word in words), "")
