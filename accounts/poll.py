"""When a loop has to look into the database again, and how it asks there cheaply whether there is anything to do."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts import bell


class Poll:
    """How one loop waits, on one thread.

    Where SQLite's file lies whoever writes rings (see accounts.bell), so the loop may sleep for long. Nobody does where
    the database is another, or the system not Linux: there the loop looks again every so many seconds.
    """

    def __init__(self, wake: threading.Event, every: float) -> None:
        self._wake, self._every = wake, every
        self._told = bell.hear(wake)

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
