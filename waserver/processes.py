"""Processes of one installation, told by the address of the supervisor that started them. Without Django: the guard
uses it, and stays small."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

#: Seconds from SIGTERM to SIGKILL: a host takes up to 10 to end its sessions.
PATIENCE = 15.0


def supervisor(pid_file: Path) -> psutil.Process | None:
    """Return the supervisord a pid file names; None when there is none, or its number is somebody else's by now."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        command = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    ours = any("supervisord" in part for part in command) and str(pid_file.with_name("supervisord.conf")) in command
    return process if ours and process.status() != psutil.STATUS_ZOMBIE else None


def started_by(server_url: str) -> list[psutil.Process]:
    """Return what a supervisor with this address has started, this process and its ancestors left out.

    supervisord tells each child its own address, which lies in VAR_DIR; other installations of the same code, and
    what somebody runs by hand, have another or none.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process for process in psutil.process_iter(["environ", "status"])
        if process.pid not in own and process.info["status"] != psutil.STATUS_ZOMBIE
        and (process.info["environ"] or {}).get("SUPERVISOR_SERVER_URL") == server_url
    ]  # fmt: skip


def end(processes: Sequence[psutil.Process], patience: float = PATIENCE) -> list[int]:
    """SIGTERM to the leaders of their groups, which end their own children, and SIGKILL to what still runs when those
    have ended or `patience` seconds are over; return the ids of leaders that had to be killed."""
    leaders = [process for process in processes if _leads(process)]
    _signal(leaders, signal.SIGTERM)
    stubborn = still_running(leaders, patience)
    left = still_running(processes)
    _signal(left, signal.SIGKILL)
    still_running(left, 5)
    return [process.pid for process in stubborn]


def still_running(processes: Iterable[psutil.Process], patience: float = 0.0) -> list[psutil.Process]:
    """Return those that run after `patience` seconds, at once when none does.

    What has ended and was not collected by its parent does not run: the first process of a container may be one that
    never collects orphans, and psutil.wait_procs would wait for those until its time is over.
    """
    until = time.monotonic() + patience
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def kill_group(leader: int) -> None:
    """SIGKILL to what is left of the process group of a program that has ended."""
    if leader > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def listener(port: int) -> str:
    """Return who listens on a TCP port, as words for a sentence, or "" when that cannot be told."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and connection.pid and local and local.port == port:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it may just have ended
            process.send_signal(number)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _leads(process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == process.pid
    except OSError:
        return False
