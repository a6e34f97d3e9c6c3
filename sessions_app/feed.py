"""A change feed: one task per web process that looks at rows while a browser watches, and pushes what is new.

It compares what each browser was sent last with the rows as they are. There is no cursor over ids or times, so a
transaction that commits late is never skipped. All browsers are served by one look at the database, and what is the
same for several of them is rendered once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError

_log = logging.getLogger(__name__)

#: Close code: log in (again).
LOG_IN = 4401
#: Seconds between looks when the look itself fails.
_PAUSE = 1.0


class Watcher(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A browser. It has no subscription of its own: the feed listens once for all of them."""

    channel_layer_alias = "none: the feed listens"
    feed: Feed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: dict[Any, int] = {}  # key -> hash of the text sent last
        self.wish = 0  # raised whenever it asks for something else; a look begun before is then not for it

    async def connect(self) -> None:
        """Accept those who may look."""
        allowed = (await database_sync_to_async(self.feed.may)([self.scope]))[0]
        await self.accept()  # also a stranger's, for a moment: a browser learns the close code only of an open socket
        if allowed:
            self.feed.add(self)
        else:
            await self.close(LOG_IN)

    async def disconnect(self, code: int) -> None:
        """Forget it."""
        self.feed.remove(self)

    def ask_afresh(self) -> None:
        """Have everything sent again, for a new wish."""
        self.wish += 1
        self.sent.clear()
        self.feed.hint()


#: What a look finds for one browser: key -> text to send, or None when it may not look any more.
Found = Mapping[Any, str] | None


class Feed:
    """One per process and kind of page.

    `look` runs on a database thread: it returns what each browser should now see, permission checked. `may` tells of
    each connection's scope whether it may look at all. Hints arrive over the channel layer's `group`.
    """

    def __init__(self, group: str, look: Callable[[Sequence[Any]], Mapping[Any, Found]],
                 may: Callable[[Sequence[Any]], list[bool]]) -> None:  # fmt: skip
        self._group, self._look, self.may = group, look, may
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()

    def add(self, watcher: Watcher) -> None:
        """Begin to look for it."""
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._hint = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._hint.set()

    def remove(self, watcher: Watcher) -> None:
        """Forget it; without watchers nothing is looked at."""
        self._watchers.discard(watcher)
        self._hint.set()

    def hint(self) -> None:
        """Look now: something changed."""
        self._hint.set()

    async def _run(self) -> None:
        listener = asyncio.get_running_loop().create_task(self._listen()) if settings.REDIS_URL else None
        try:
            while self._watchers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.WATCH_INTERVAL.total_seconds()):
                        await self._hint.wait()
                self._hint.clear()
                await self._turn()
        finally:
            if listener is not None:
                listener.cancel()

    async def _turn(self) -> None:
        asked = {watcher: watcher.wish for watcher in self._watchers}
        try:
            found = await database_sync_to_async(self._look)(list(asked))
        except DatabaseError:
            _log.warning("The rows watched by browsers could not be read", exc_info=True)
            await asyncio.sleep(_PAUSE)
            return
        for watcher, texts in found.items():
            if watcher not in self._watchers or watcher.wish != asked[watcher]:
                continue
            try:
                await self._push(watcher, texts)
            except Exception:  # noqa: BLE001 - a browser that went away must not hold up the others
                _log.debug("A browser could not be told", exc_info=True)
                self.remove(watcher)

    async def _push(self, watcher: Watcher, texts: Found) -> None:
        if texts is None:
            self.remove(watcher)
            await watcher.close(LOG_IN)
            return
        for key, text in texts.items():
            if watcher.sent.get(key) != (seen := hash(text)):
                watcher.sent[key] = seen
                await watcher.send(text_data=text)

    async def _listen(self) -> None:
        """Turn hints into looks. Without them, or while Redis is away, the timer finds the change."""
        while True:
            try:
                layer = get_channel_layer()
                channel = await layer.new_channel()
                await layer.group_add(self._group, channel)
                while True:
                    await layer.receive(channel)
                    self.hint()
            except Exception:  # noqa: BLE001 - a hint only
                _log.warning("No hints arrive from the channel layer; looking by the clock", exc_info=True)
                await asyncio.sleep(_PAUSE)
