"""What this process counts in memory, and the one thread that writes it down every few seconds: no row per request.

A minute's row is written with the totals so far, again and again until the minute is over, so a write that failed is
made up for by the next. At the end of the process the thread writes once more.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from monitoring import histogram

_log = logging.getLogger(__name__)

#: Minutes kept while the database does not answer.
_PATIENCE = 60
#: Different statements remembered per minute, and letters of each.
_STATEMENTS, _LETTERS = 50, 500


def _name() -> str:
    return f"{platform.node()[:20]}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


@dataclass
class Requests:
    """One route in one minute."""

    count: int = 0
    errors: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


@dataclass
class Statement:
    """One slow statement in one minute."""

    count: int = 0
    worst: float = 0.0


class Counter:
    """The counts of this process. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._requests: dict[tuple[int, str], Requests] = {}
        self._statements: dict[tuple[int, str], Statement] = {}
        self._changed: set[tuple[int, str]] = set()
        self._slow_changed: set[tuple[int, str]] = set()
        self.process = _name()

    def request(self, route: str, seconds: float, failed: bool) -> None:
        """Count one request."""
        number = histogram.bucket(seconds)
        key = (int(self._clock() // 60), route)
        with self._lock:
            entry = self._requests.get(key)
            if entry is None:
                self._drop_before(key[0] - _PATIENCE)
                entry = self._requests[key] = Requests()
            entry.count += 1
            entry.errors += failed
            entry.buckets[number] = entry.buckets.get(number, 0) + 1
            self._changed.add(key)

    def statement(self, sql: str, seconds: float) -> None:
        """Count one slow statement. `sql` has placeholders in the place of its parameters."""
        key = (int(self._clock() // 60), " ".join(sql.split())[:_LETTERS])
        with self._lock:
            entry = self._statements.get(key)
            if entry is None:
                if len(self._statements) >= _STATEMENTS * _PATIENCE:
                    return
                entry = self._statements[key] = Statement()
            entry.count += 1
            entry.worst = max(entry.worst, seconds)
            self._slow_changed.add(key)

    def flush(self) -> int:
        """Write what changed; return the number of rows. Raises DatabaseError, and then nothing is forgotten."""
        from monitoring.models import RequestCount, SlowQuery
        from monitoring.store import upsert

        with self._lock:
            changed, self._changed = self._changed, set()
            slow, self._slow_changed = self._slow_changed, set()
            counts = [
                RequestCount(at=_time(minute), route=route, process=self.process, count=entry.count,
                             errors=entry.errors, buckets={str(n): c for n, c in sorted(entry.buckets.items())})
                for minute, route in changed for entry in (self._requests[minute, route],)
            ]  # fmt: skip
            statements = [
                SlowQuery(at=_time(minute), process=self.process, statement=sql, count=entry.count, worst=entry.worst)
                for minute, sql in slow for entry in (self._statements[minute, sql],)
            ]
        try:
            if counts:
                upsert(RequestCount, counts, RequestCount.KEY, RequestCount.VALUES)
            for row in statements:
                SlowQuery.objects.update_or_create(
                    at=row.at, process=row.process, statement=row.statement,
                    defaults={"count": row.count, "worst": row.worst},
                )  # fmt: skip
        except BaseException:
            with self._lock:
                self._changed |= changed
                self._slow_changed |= slow
            raise
        finally:
            self._forget()
        return len(counts) + len(statements)

    def _forget(self) -> None:
        """Drop the minutes that are over and written."""
        minute = int(self._clock() // 60)
        with self._lock:
            for requests in [k for k in self._requests if k[0] < minute and k not in self._changed]:
                del self._requests[requests]
            for statement in [k for k in self._statements if k[0] < minute and k not in self._slow_changed]:
                del self._statements[statement]

    def _drop_before(self, minute: int) -> None:
        """Give up what could not be written for too long. The lock is held."""
        for key in [k for k in self._requests if k[0] < minute]:
            del self._requests[key]
            self._changed.discard(key)


class Flusher:
    """The thread that writes; started by the first thing counted in a process, and again after a fork."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._pid = 0
        self._starting = threading.Lock()
        self._ending = threading.Event()

    def ensure(self) -> None:
        """Start it when it does not run in this process. COLLECT_INTERVAL 0: never."""
        if self._pid == os.getpid() or not settings.COLLECT_INTERVAL:
            return
        with self._starting:
            if self._pid == os.getpid():
                return
            self._counter.process = _name()
            self._ending.clear()
            threading.Thread(target=self._run, name="counts", daemon=True).start()
            atexit.register(self._end)
            self._pid = os.getpid()

    def _run(self) -> None:
        while not self._ending.wait(settings.COLLECT_INTERVAL.total_seconds()):
            self._write()

    def _write(self) -> None:
        try:
            self._counter.flush()
        except (DatabaseError, InterfaceError) as error:
            _log.warning("The request counts could not be written yet: %s", error)
            connection.close()
        except Exception:  # noqa: BLE001 - the thread's edge: counting must go on
            _log.exception("The request counts could not be written")

    def _end(self) -> None:
        self._ending.set()
        self._write()


counter = Counter()
flusher = Flusher(counter)


def count_request(route: str, seconds: float, failed: bool) -> None:
    """Count an API request of this process."""
    counter.request(route, seconds, failed)
    flusher.ensure()


def watch_statements(sender: object, connection: Any, **kwargs: object) -> None:
    """Have every statement of a new connection timed. Receiver of connection_created."""
    if _time_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_time_statement)


def _time_statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    began = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        took = time.perf_counter() - began
        if took > settings.SLOW_QUERY.total_seconds() and "monitoring_slowquery" not in sql:
            counter.statement(str(sql), took)
            flusher.ensure()


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
