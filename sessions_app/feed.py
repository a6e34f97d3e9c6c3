"""The change feed of a web process: one task that looks at the watched rows while at least one browser watches.

It compares each session's version with what each browser was sent last. There is no cursor over ids or times, so a
transaction that commits late is never skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError

from sessions_app.models import Session

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """A browser: which sessions it watches, and the version of each it was sent last."""

    watched: set[int]
    sent: dict[int, int]

    async def push(self, ids: list[int]) -> None:
        """Send the browser these sessions as they are now."""


class Feed:
    """One per process."""

    def __init__(self) -> None:
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
        while self._watchers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.WATCH_INTERVAL.total_seconds()):
                    await self._hint.wait()
            self._hint.clear()
            ids = set().union(*(watcher.watched for watcher in self._watchers))
            try:
                versions = await _versions(ids) if ids else {}
            except DatabaseError:
                _log.warning("The rows watched by browsers could not be read", exc_info=True)
                continue
            for watcher in list(self._watchers):
                changed = [pk for pk in watcher.watched if pk in versions and versions[pk] != watcher.sent.get(pk)]
                if changed:
                    await watcher.push(changed)


@database_sync_to_async
def _versions(ids: set[int]) -> dict[int, int]:
    return dict(Session.objects.filter(pk__in=ids).values_list("pk", "version"))


feed = Feed()
