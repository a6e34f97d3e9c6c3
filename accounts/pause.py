"""A server that did not answer is left alone for a while, so that what can do without it is not held up each time."""

from __future__ import annotations

import time

#: Seconds one call may wait for Redis, and for how long it is left alone after one that failed.
PATIENCE, _LENGTH = 1.0, 5.0


class Pause:
    """From any thread: at worst two of them find out at once that nobody answers."""

    def __init__(self) -> None:
        self._until = float("-inf")

    @property
    def over(self) -> bool:
        """Return whether to ask again."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """It did not answer."""
        self._until = time.monotonic() + _LENGTH
