"""The hints that something waits to be sent, and that a session changed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from redis import Redis, RedisError

from accounts.pause import Pause
from messaging import hints
from sessions_app import changes
from tests.installation import free_port, wait_for


def connect(url: str) -> Any:
    return Redis.from_url(url)


def answers(url: str) -> bool:
    try:
        return bool(connect(url).ping())
    except RedisError:
        return False


@pytest.fixture
def redis(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs the program redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        monkeypatch.setattr(hints, "_client", None)
        monkeypatch.setattr(hints, "_pause", Pause())
        wait_for(lambda: answers(settings.REDIS_URL))
        yield
        server.terminate()


@pytest.mark.django_db(transaction=True)
def test_a_hint_wakes_a_host_once_the_message_is_committed(redis: None, settings: Any) -> None:
    woken, stopping = threading.Event(), threading.Event()
    hints.listen(woken.set, stopping)
    wait_for(lambda: connect(settings.REDIS_URL).pubsub_numsub(hints.CHANNEL)[0][1] == 1)
    with transaction.atomic():
        hints.queued()
        assert not woken.wait(0.2)
    assert woken.wait(5)
    stopping.set()


@pytest.mark.django_db(transaction=True)
def test_a_hint_that_cannot_be_sent_holds_nothing_up(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(hints, "_client", None)
    monkeypatch.setattr(hints, "_pause", Pause())
    hints.queued()
    wait_for(lambda: not hints._pause.over)


@pytest.mark.django_db(transaction=True)
def test_hints_of_a_moment_are_one(redis: None, settings: Any) -> None:
    channel = connect(settings.REDIS_URL).pubsub(ignore_subscribe_messages=True)
    channel.subscribe(hints.CHANNEL)
    assert channel.get_message(timeout=5) is None  # it listens
    began = time.monotonic()
    for _ in range(1000):
        hints.queued()
    took = time.monotonic() - began
    heard = 0
    while channel.get_message(timeout=1) is not None:
        heard += 1
    assert 1 <= heard <= took / hints._GATHERED + 2


@pytest.mark.django_db(transaction=True)
def test_a_silent_redis_is_left_alone_for_a_while(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes rows waits for one hint, not for each."""
    visits: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    visits.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [settings.REDIS_URL]}}
        }
        monkeypatch.setattr(changes, "_pause", Pause())
        for _ in range(3):
            changes.announce(1)
        assert len(visits) == 1
        monkeypatch.setattr(changes, "_pause", Pause())
        changes.announce(1)
        assert len(visits) == 2
        server.shutdown(socket.SHUT_RDWR)
    for visit in visits:
        visit.close()
