"""When a loop has to look into the database again, and how it asks there cheaply whether there is anything to do."""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone
from inotify_simple import INotify, flags

_log = logging.getLogger(__name__)

#: Writes within so many seconds wake the loops once.
_GATHERED = 0.1


class Poll:
    """How one loop waits, on one thread.

    Where SQLite's file lies the kernel tells within a moment that somebody writes into it, so the loop may sleep for
    long. Nothing tells that of other databases, nor of a file on another system than Linux: there the loop looks again
    every so many seconds.
    """

    def __init__(self, wake: threading.Event, every: float) -> None:
        self._wake, self._every = wake, every
        self._told = _tell(wake)

    def wait(self, at_most: float) -> bool:
        """Return after so many seconds, or as soon as there may be something new; whether somebody woke the loop."""
        woken = self._wake.wait(at_most if self._told else min(self._every, at_most))
        self._wake.clear()
        return woken


def ask(question: str, **given: str | int | datetime) -> tuple[Any, ...]:
    """Return the one row that a statement answers with; in it `%(now)s` is the time, `%(name)s` what is given.

    For what a loop asks all day: written by hand, because Django takes ten times longer to put a statement together
    than the database to answer it. It may say there is work where there is none, never the other way round.
    """
    adapted = {
        name: connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
        for name, value in {"now": timezone.now(), **given}.items()
    }
    with connection.cursor() as cursor:
        cursor.execute(question, adapted)
        row: tuple[Any, ...] = cursor.fetchone()
    return row


#: Set when somebody writes into SQLite's file: those of the loops that still live.
_wakes: weakref.WeakSet[threading.Event] = weakref.WeakSet()
_watching = threading.Lock()
_watched: Path | None = None


def _tell(wake: threading.Event) -> bool:
    """Have it set whenever somebody writes; return whether anybody can tell."""
    global _watched
    if connection.vendor != "sqlite" or sys.platform != "linux":
        return False
    file = Path(connection.settings_dict["NAME"]).resolve()  # a link's write-ahead log lies where it leads
    with _watching:
        if _watched is None:
            try:
                events = INotify()
                # The folder: the write-ahead log, which every commit grows, comes and goes with the connections.
                events.add_watch(file.parent, flags.MODIFY | flags.CREATE)
            except OSError:  # no more watches are allowed, for one
                _log.warning("Nobody tells when the database is written to: loops look again and again", exc_info=True)
                return False
            _watched = file
            threading.Thread(target=_watch, args=(events, file.name), name="database-watch", daemon=True).start()
        _wakes.add(wake)
        return _watched == file


def _watch(events: INotify, name: str) -> None:
    while True:
        if any(event.name.startswith(name) or event.mask & flags.Q_OVERFLOW for event in events.read()):
            with _watching:
                wakes = list(_wakes)
            for wake in wakes:
                wake.set()
        time.sleep(_GATHERED)
