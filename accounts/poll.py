"""When a loop has to look into the database again."""

from __future__ import annotations

import time

from django.db import connection


class Poll:
    """One loop's, on one thread.

    SQLite tells within microseconds whether another connection has written since the last look; while none has, only
    what becomes due by time alone is missed, and for no more than `at_most` seconds. Other databases tell no such
    thing: there it is always time. What this thread writes itself does not count: a loop that did something goes on.
    """

    def __init__(self) -> None:
        self._looked, self._version = float("-inf"), -1

    def due(self, at_most: float) -> bool:
        """Return whether to look now; then that is the last look."""
        version = _version()
        now = time.monotonic()
        if version is not None and version == self._version and now - self._looked < at_most:
            return False
        self._looked, self._version = now, -1 if version is None else version
        return True


def _version() -> int | None:
    if connection.vendor != "sqlite":
        return None
    connection.ensure_connection()
    # Past Django's cursor, which costs more than the question.
    return int(connection.connection.execute("PRAGMA data_version").fetchone()[0])
