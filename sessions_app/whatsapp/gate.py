"""The gate before the Go library's unguarded maps: one start or stop at a time, and no call begins inside one.

The library keeps its clients in maps without locks. Starting a client writes them (before it dials) and reads them
once more (after it has dialled); stopping writes them; every call reads them in its first microseconds. A write beside
another write or read ends the whole process. So starts and stops take turns, in order, stops first; the part that
writes excludes calls as well; and while a start merely dials, calls go on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after its beginning in which a call may still be reading the maps. Generous: it takes microseconds.
CALL_HEAD = 0.05


class Turn:
    """Held by the one start or stop under way."""

    def __init__(self, maps: threading.Lock) -> None:
        self._maps: threading.Lock | None = maps

    def written(self) -> None:
        """Let calls through again: this turn will not write the maps any more. Idempotent."""
        maps, self._maps = self._maps, None
        if maps is not None:
            maps.release()


class Gate:
    """One per loaded library."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._busy = False
        self._waiting: deque[threading.Lock] = deque()
        self._maps = threading.Lock()
        self._last_call_began = float("-inf")

    def call_begins(self) -> None:
        """Wait until no turn is writing, and note that a call begins now. Waits milliseconds."""
        with self._maps:
            self._last_call_began = time.monotonic()

    @contextmanager
    def turn(self, *, first: bool = False, timeout: float = -1) -> Iterator[Turn | None]:
        """Yield the turn, or None when it did not come within `timeout` seconds (-1: wait for ever).

        With `first` it is taken before those already waiting (stops).
        """
        if not self._acquire(first, timeout):
            yield None
            return
        try:
            self._maps.acquire()
            turn = Turn(self._maps)
            try:
                rest = self._last_call_began + CALL_HEAD - time.monotonic()
                if rest > 0:
                    time.sleep(rest)
                yield turn
            finally:
                turn.written()
        finally:
            self._release()

    def _acquire(self, first: bool, timeout: float) -> bool:
        with self._mutex:
            if not self._busy:
                self._busy = True
                return True
            mine = threading.Lock()
            mine.acquire()
            if first:
                self._waiting.appendleft(mine)
            else:
                self._waiting.append(mine)
        if mine.acquire(timeout=timeout):
            return True
        with self._mutex:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        return True  # it came in the same instant

    def _release(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False
