"""The cache in Redis, which also counts."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient


class KeptClient(RedisCacheClient):
    """Keeps redis-py's clients. Django's makes one for each call, which takes longer than the call."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[bool, Any] = {}

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        """Return the client to write or read with."""
        if write not in self._kept:
            self._kept[write] = super().get_client(key, write=write)
        return self._kept[write]


class CountingRedis(RedisCache):
    """Django's, and one way to count that takes one round trip: its `incr` takes two, and fails for the first."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = KeptClient

    def count(self, key: str, timeout: int) -> int:
        """Add one to what is counted under a key and return the sum; it is forgotten after `timeout` seconds."""
        name = self.make_and_validate_key(key)
        both = self._cache.get_client(name, write=True).pipeline(transaction=False)
        both.incr(name)
        both.expire(name, timeout)
        return int(both.execute()[0])
