"""The bell: where SQLite's file lies, whoever writes what a loop may look for rings, and so wakes the loops.

A program at rest is woken by nothing else. What is written all day and no loop looks for, as readings, jobs and leases,
rings nothing: waking up for it took a third of the processor time of a host at rest (bench/peers/compare.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from django.db import connection
from inotify_simple import INotify, flags

_log = logging.getLogger(__name__)

#: How the tables' names begin that no loop looks into between its own times.
SILENT = ("monitoring_", "django_", "auth_", "auditlog_", "axes_", "otp_", "accounts_apikey", "sessions_app_host",
          "sessions_app_job", "messaging_dispatcherlease")  # fmt: skip
#: What changes nothing, and what changes such a table. Anything else rings: once too often does no harm.
_RINGS_NOT = re.compile(
    r"\s*(?:SELECT|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|PRAGMA|EXPLAIN"
    rf"|(?:INSERT (?:OR \w+ )?INTO|UPDATE|DELETE FROM) \"?(?:{'|'.join(SILENT)}))", re.IGNORECASE)  # fmt: skip
#: Rings within so many seconds wake the loops once.
_GATHERED = 0.1

_silent: ContextVar[bool] = ContextVar("silent", default=False)
#: Those of the loops that still live.
_wakes: weakref.WeakSet[threading.Event] = weakref.WeakSet()
_hearing = threading.Lock()
_heard: Path | None = None


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Have what is written in this context ring nothing: no loop waits for it."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def install(sender: object, connection: Any, **kwargs: object) -> None:
    """Have what is written through a new connection ring, once it is committed. Receiver of connection_created."""
    if _file(connection) is not None and _note not in connection.execute_wrappers:
        connection.execute_wrappers.append(_note)


def hear(wake: threading.Event) -> bool:
    """Have it set whenever somebody rings; return whether anybody can."""
    global _heard
    file = _file(connection)
    if file is None:
        return False
    with _hearing:
        if _heard is None:
            try:
                rings = INotify()
                _attend(rings, file)
            except OSError:  # no more watches are allowed, for one
                _log.warning("Nobody tells when the database is written to: loops look again and again", exc_info=True)
                return False
            _heard = file
            threading.Thread(target=_wake_loops, args=(rings, file), name="bell", daemon=True).start()
        _wakes.add(wake)
        return _heard == file


def _file(database: Any) -> Path | None:
    """Return the bell of a database, None where there can be none."""
    if database.vendor != "sqlite" or sys.platform != "linux" or database.is_in_memory_db():
        return None
    return _beside(database.settings_dict["NAME"])


@cache
def _beside(database: str | Path) -> Path:
    file = Path(database).resolve()  # also for those who reach it through a link
    return file.with_name(file.name + "-bell")


def _note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    answer = execute(sql, params, many, context)
    database = context["connection"]
    if _RINGS_NOT.match(sql) or _silent.get() or any(call is _ring for _point, call, _robust in database.run_on_commit):
        return answer
    if database.in_atomic_block or database.autocommit:
        database.on_commit(_ring, robust=True)
    else:  # whoever commits by hand; Django would refuse
        _ring()
    return answer


def _ring() -> None:
    file = _file(connection)
    try:
        if file is not None:
            os.utime(file)
    except FileNotFoundError:
        pass  # nobody hears
    except OSError as error:
        _complain(str(error))


@cache
def _complain(error: str) -> None:
    """Say so once."""
    _log.warning("The loops cannot be woken when something is written, and look again in some seconds: %s", error)


def _attend(rings: INotify, file: Path) -> None:
    file.touch(0o600)
    rings.add_watch(file, flags.ATTRIB)


def _wake_loops(rings: INotify, file: Path) -> None:
    while True:
        if any(ring.mask & flags.IGNORED for ring in rings.read()):  # somebody deleted it
            try:
                _attend(rings, file)
            except OSError as error:
                _complain(str(error))
        with _hearing:
            wakes = list(_wakes)
        for wake in wakes:
            wake.set()
        time.sleep(_GATHERED)
