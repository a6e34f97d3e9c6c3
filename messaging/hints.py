"""A hint that something waits to be sent, for databases that tell nobody when they change (see accounts.poll).

With Redis it wakes the hosts at once; without, they look four times a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.conf import settings
from django.db import transaction

from accounts.pause import PATIENCE, Pause

_log = logging.getLogger(__name__)

CHANNEL = "waserver:outbox"
_client: object = None
_pause = Pause()


def queued() -> None:
    """Tell the hosts, once the transaction is committed. A hint only: lost, the hosts' timer finds the row."""
    if settings.REDIS_URL:
        transaction.on_commit(_publish)


def listen(wake: Callable[[], None], stopping: threading.Event) -> None:
    """Call `wake` at each hint until `stopping`, on a thread of its own. Without Redis there is none to hear."""
    if settings.REDIS_URL:
        threading.Thread(target=_listen, args=(wake, stopping), name="hints", daemon=True).start()


def _publish() -> None:
    global _client
    import redis

    if not _pause.over:
        return
    try:
        if _client is None:
            _client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        _client.publish(CHANNEL, b"1")  # type: ignore[attr-defined]
    except redis.RedisError:
        _pause.begin()
        _log.warning("Could not send a hint to the hosts", exc_info=True)


def _listen(wake: Callable[[], None], stopping: threading.Event) -> None:
    import redis

    while not stopping.is_set():
        try:
            channel = redis.Redis.from_url(settings.REDIS_URL).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            channel.subscribe(CHANNEL)
            while not stopping.is_set():
                if channel.get_message(timeout=1) is not None:
                    wake()
        except redis.RedisError:
            stopping.wait(5)
