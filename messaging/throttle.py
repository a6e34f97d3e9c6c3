"""How often something may happen: counted in the cache, in windows of fixed length.

With Redis the cache is shared by all processes. Without it each process counts for itself; the web process, which is
the one that asks, is a single process then. While Redis does not answer nothing is refused: a message that is let in
is worth more than a limit.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from django.core.cache import cache, caches
from redis.exceptions import RedisError

from accounts.cache import CountingRedis
from accounts.pause import Pause

_log = logging.getLogger(__name__)
_pause = Pause()


@dataclass(frozen=True)
class Quota:
    """What is left."""

    name: str
    limit: int
    window: int  # seconds
    left: int  # below zero: refused
    reset: int  # seconds until the window ends

    @property
    def exceeded(self) -> bool:
        """Return whether there was one too many."""
        return self.left < 0

    @property
    def headers(self) -> dict[str, str]:
        """Return the RateLimit headers of the IETF draft, and Retry-After where it is refused."""
        shown = {
            "RateLimit-Policy": f'"{self.name}";q={self.limit};w={self.window}',
            "RateLimit": f'"{self.name}";r={max(0, self.left)};t={self.reset}',
        }
        return {**shown, "Retry-After": str(self.reset)} if self.exceeded else shown


def take(name: str, who: object, limit: int, window: int = 60) -> Quota:
    """Count one and return what is left of `limit` in this window."""
    return _quota(name, who, limit, window, 1)


def look(name: str, who: object, limit: int, window: int = 60) -> Quota:
    """Return what is left, counting nothing."""
    return _quota(name, who, limit, window, 0)


def _quota(name: str, who: object, limit: int, window: int, count: int) -> Quota:
    now = time.time()
    number, into = divmod(now, window)
    key = f"throttle:{name}:{who}:{int(number)}"
    used = 1
    if _pause.over:
        try:
            used = _count(key, window) if count else cache.get(key, 0) + 1
        except (OSError, RedisError):
            _pause.begin()
            _log.warning("Requests cannot be counted: the cache does not answer. They are let pass", exc_info=True)
    return Quota(name, limit, window, limit - used, max(1, round(window - into)))


def _count(key: str, window: int) -> int:
    if isinstance(counter := caches["default"], CountingRedis):
        return counter.count(key, window + 1)
    try:
        return cache.incr(key)
    except ValueError:  # the first of this window
        if cache.add(key, 1, timeout=window + 1):
            return 1
    try:
        return cache.incr(key)  # another thread was the first
    except ValueError:  # evicted in between
        return 1
