"""Counting how often something happens, also while Redis says nothing."""

from __future__ import annotations

import selectors
import socket
from typing import Any

import pytest

from accounts.pause import Pause
from messaging import throttle


@pytest.fixture
def silent_redis(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Redis that takes connections and never answers, as behind a switch that died."""
    monkeypatch.setattr(throttle, "_pause", Pause())
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        settings.CACHES = {"default": {
            "BACKEND": "accounts.cache.CountingRedis",
            "LOCATION": f"redis://127.0.0.1:{server.getsockname()[1]}",
            "OPTIONS": {"socket_timeout": 0.2, "socket_connect_timeout": 0.2},
        }}  # fmt: skip
        yield server


def connections(server: socket.socket) -> int:
    """Take what has connected; return how many."""
    found = 0
    with selectors.DefaultSelector() as ready:
        ready.register(server, selectors.EVENT_READ)
        while ready.select(0):
            server.accept()[0].close()
            found += 1
    return found


def test_one_too_many_is_refused() -> None:
    taken = [throttle.take("test", "one", 2) for _ in range(3)]
    assert [quota.left for quota in taken] == [1, 0, -1]
    assert [quota.exceeded for quota in taken] == [False, False, True]
    assert throttle.take("test", "another", 2).left == 1


def test_while_redis_is_silent_requests_pass_and_wait_for_it_once(silent_redis: socket.socket) -> None:
    assert not throttle.take("test", "one", 1).exceeded
    asked = connections(silent_redis)
    assert asked
    assert not throttle.take("test", "one", 1).exceeded
    assert not throttle.look("failures", "somewhere", 1).exceeded
    assert connections(silent_redis) == 0
