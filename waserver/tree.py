"""The tree of processes on this machine: supervisord and what it runs. Start, stop, restart, and what is there now."""

from __future__ import annotations

import contextlib
import platform
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psutil
from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.models import Program
from waserver import guard, processes
from waserver.program_record import Record
from waserver.rpc import Info, Supervisor, SupervisorError
from waserver.supervision import pid_file, server_url, socket_file, write_config

#: Seconds a graceful stop of everything may take, and a start until the web process answers.
STOP_PATIENCE, START_PATIENCE = 30.0, 60.0

Say = Callable[[str], object]


def supervisor() -> Supervisor:
    """Return the supervisord of this installation."""
    return Supervisor(str(socket_file()))


def supervisord() -> psutil.Process | None:
    """Return supervisord's process, or None when it does not run."""
    return processes.supervisor(pid_file())


def left_over() -> list[psutil.Process]:
    """Return what a supervisord that is gone has left running."""
    return processes.started_by(server_url())


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Nobody else starts or stops the tree meanwhile. Raises CommandError when somebody does."""
    with guard.lock(settings.RUN_DIR) as mine:
        if not mine:
            raise CommandError(
                _("Another command is starting, stopping or recovering this server: wait for it to end.")
            )
        yield


def refuse_second() -> None:
    """Raise CommandError when the server runs already."""
    if running := supervisord():
        text = _(
            "waserver already runs here (process %(pid)d). See `manage.py server status`; stop it with "
            "`manage.py server stop`."
        )
        raise CommandError(text % {"pid": running.pid})


def clear(say: Say) -> None:
    """End what an earlier run left running and remove its pid file; say what was found."""
    if orphans := left_over():
        numbers = " ".join(str(process.pid) for process in orphans)
        if processes.end(orphans):
            text = _(
                "Processes of an earlier run whose supervisor had died still ran (%(numbers)s): they were ended first, "
                "by force."
            )
        else:
            text = _(
                "Processes of an earlier run whose supervisor had died still ran (%(numbers)s): they were ended first."
            )
        say(text % {"numbers": numbers})
    if pid_file().exists():
        say(_stale_pid_file())
        pid_file().unlink(missing_ok=True)
    socket_file().unlink(missing_ok=True)


def start() -> None:
    """Start supervisord in the background and wait until the web process answers. Raises CommandError."""
    (settings.RUN_DIR / "programs.json").unlink(missing_ok=True)
    guard.launch(write_config())
    _await_answer()


def stop_programs() -> None:
    """End all programs and leave supervisord running, for what it belongs to (systemd, a container) ends with it.

    Raises CommandError.
    """
    try:
        supervisor().stop_all()
    except SupervisorError as error:
        text = _("%(error)s Try `manage.py server stop`, then run this again.")
        raise CommandError(text % {"error": error}) from None


def start_programs() -> None:
    """Start all programs again and wait until the web process answers. Raises CommandError."""
    try:
        supervisor().start_all()
    except SupervisorError as error:
        raise CommandError(_stop_and_start(error)) from None
    _await_answer()


def _await_answer() -> None:
    until = time.monotonic() + START_PATIENCE
    while not _answers():
        if supervisord() is None and time.monotonic() > until - START_PATIENCE + 5:
            log = settings.LOG_DIR / "supervisord.log"
            raise CommandError(_("supervisord did not start; see %(log)s.") % {"log": log})
        if time.monotonic() > until:
            text = _(
                "The web process does not answer on port %(port)d after %(seconds).0f s; see "
                "`manage.py server status` and `manage.py server logs --errors`."
            )
            raise CommandError(text % {"port": settings.PORT, "seconds": START_PATIENCE})
        time.sleep(0.2)


def stop(say: Say) -> bool:
    """End everything gracefully, by force what takes longer than STOP_PATIENCE; return whether anything ran."""
    running = supervisord()
    if running is not None:
        members = [running, *running.children(recursive=True)]
        try:
            supervisor().shutdown()
        except SupervisorError:
            with contextlib.suppress(psutil.Error):
                running.terminate()
        alive = processes.still_running(members, STOP_PATIENCE)
        if alive:
            numbers = " ".join(str(process.pid) for process in alive)
            say(_("These did not end in time and were killed: %(numbers)s.") % {"numbers": numbers})
            processes.end(alive, 0)
    orphans = left_over()
    if orphans:
        processes.end(orphans)
        if running is None:
            numbers = " ".join(str(process.pid) for process in orphans)
            say(_("Half of it ran, without a supervisor: %(numbers)s were ended.") % {"numbers": numbers})
    stale = running is None and pid_file().exists()
    if stale:
        say(_stale_pid_file())
    pid_file().unlink(missing_ok=True)
    socket_file().unlink(missing_ok=True)
    return running is not None or bool(orphans)


def restart_program(name: str) -> None:
    """Stop one program and start it again; returns once it runs. Raises CommandError."""
    try:
        known = {info.name: info for info in supervisor().programs()}
        if name not in known:
            text = _("There is no program “%(name)s” here: %(known)s.")
            raise CommandError(text % {"name": name, "known": ", ".join(known)})
        if known[name].state in ("running", "starting", "backoff"):
            supervisor().stop(name)
        supervisor().start(name, wait=True)
    except SupervisorError as error:
        raise CommandError(str(error)) from None


def in_foreground() -> bool:
    """Return whether the tree belongs to a `server run` (or `monitor`), which must not end by a restart."""
    running = supervisord()
    with contextlib.suppress(psutil.Error):
        return running is not None and "WASERVER_FOREGROUND" in running.environ()
    return False


def require_running() -> list[Info]:
    """Return the programs. Raises CommandError when there is no supervisor, or it does not answer."""
    if supervisord() is None:
        orphans = " ".join(str(process.pid) for process in left_over())
        text = _("waserver is not running.")
        if orphans:
            text = _(
                "waserver is not running, but parts of it still run (%(numbers)s): `manage.py server start` puts that "
                "right."
            )
        raise CommandError(text % {"numbers": orphans}, returncode=2)
    try:
        return supervisor().programs()
    except SupervisorError as error:
        raise CommandError(_stop_and_start(error)) from None


def records() -> dict[str, Record]:
    """Return what the guard wrote down."""
    return guard.load(settings.RUN_DIR)


def record(stopped: bool = False) -> int:
    """Bring this machine's Program rows in line with what the guard wrote down; return their number."""
    now, found = timezone.now(), records()
    with transaction.atomic():
        for name, row in found.items():
            Program.objects.update_or_create(machine=machine(), name=name, defaults=_row(row, stopped, now))
        mine = Program.objects.filter(machine=machine())
        if stopped:
            mine.update(state="stopped", pid=0, retry_at=None, recorded_at=now)
        elif found:
            mine.exclude(name__in=found).delete()
    return len(found)


def machine() -> str:
    """Return this machine's name, as hosts write it."""
    return platform.node()


def _row(row: Record, stopped: bool, now: datetime) -> dict[str, object]:
    return {
        "state": "stopped" if stopped else row.state, "pid": 0 if stopped else row.pid,
        "started_at": _time(row.started_at), "restarts": row.restarts,
        "crashes": [datetime.fromtimestamp(at, UTC).isoformat() for at in row.crashes],
        "last_crash_at": _time(row.crashes[-1] if row.crashes else None), "last_exit": row.last_exit[:120],
        "retry_at": None if stopped else _time(row.retry_at), "recorded_at": now,
    }  # fmt: skip


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _stop_and_start(error: SupervisorError) -> str:
    return _("%(error)s Try `manage.py server stop`, then `manage.py server start`.") % {"error": error}


def _stale_pid_file() -> str:
    text = _("A stale pid file was removed: process %(content)s is not a supervisor of this installation.")
    return text % {"content": _content()}


def _content() -> str:
    with contextlib.suppress(OSError):
        return pid_file().read_text().strip()[:20] or "?"
    return "?"


def _answers() -> bool:
    address = "127.0.0.1" if settings.BIND in ("0.0.0.0", "") else settings.BIND  # noqa: S104 - compared
    with contextlib.suppress(OSError), socket.create_connection((address, settings.PORT), timeout=2):
        return supervisord() is not None
    return False


