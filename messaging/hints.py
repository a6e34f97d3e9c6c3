"""A hint that something waits to be sent, for databases that tell nobody when they change (see accounts.poll).

With Redis it wakes the hosts at once; without, they look four times a second. Hints of a moment are one, sent by a
thread of its own: nobody who queues a message waits for Redis.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import transaction

from accounts.pause import PATIENCE, Pause

_log = logging.getLogger(__name__)

CHANNEL = "waserver:outbox"
#: What is queued within so many seconds of a hint is told by the next.
_GATHERED = 0.02
_client: object = None
_pause = Pause()
_queued, _starting = threading.Event(), threading.Lock()
_teller: threading.Thread | None = None


def queued() -> None:
    """Tell the hosts, once the transaction is committed. A hint only: lost, the hosts' timer finds the row."""
    if settings.REDIS_URL:
        transaction.on_commit(_tell)


def listen(wake: Callable[[], None], stopping: threading.Event) -> None:
    """Call `wake` at each hint until `stopping`, on a thread of its own. Without Redis there is none to hear."""
    if settings.REDIS_URL:
        threading.Thread(target=_listen, args=(wake, stopping), name="hints", daemon=True).start()


def _tell() -> None:
    global _teller
    _queued.set()
    with _starting:
        if _teller is None or not _teller.is_alive():  # in a forked process it does not live
            _teller = threading.Thread(target=_tell_hosts, name="hinting", daemon=True)
            _teller.start()


def _tell_hosts() -> None:
    while True:
        _queued.wait()
        _queued.clear()  # before it is told: what is queued from here on is told anew
        _publish()
        time.sleep(_GATHERED)


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
