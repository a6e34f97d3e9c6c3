"""The event stream as a WebSocket: /ws/events/?cursor=N with the key in the Authorization header.

Without `cursor` it begins now. Each frame is one event with its own cursor: reconnect with the last one, and nothing is
missing. A browser cannot set that header, so a page of another site cannot use somebody's log-in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError
from django.db.models import Max
from django.utils import timezone

from accounts.models import ApiKey, Scope
from messaging.api.auth import authenticate
from messaging.api.events import read_after
from messaging.errors import Refused
from messaging.models import Event

_log = logging.getLogger(__name__)

#: Close codes: bad request, no valid key, not allowed, too many streams.
BAD_REQUEST, NO_KEY, FORBIDDEN, TOO_MANY = 4400, 4401, 4403, 4429
_BATCH = 200
#: Streams of one key at once; and seconds after which the key is looked at again.
_MOST, _RECHECK = 20, 10.0
_open: dict[int, int] = {}


class EventConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One reader."""

    _key: ApiKey | None = None
    _task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Let a valid key with the scope `read` in; a refusal is told by the close code."""
        headers = dict(self.scope["headers"])
        await self.accept()
        try:
            header = headers.get(b"authorization", b"").decode("latin-1")
            key = await database_sync_to_async(authenticate)(header, str((self.scope.get("client") or [""])[0]))
            position = await self._begin()
        except Refused as refused:
            await self.close({401: NO_KEY, 429: TOO_MANY}.get(refused.trouble.status, BAD_REQUEST), refused.code)
            return
        if not key.may(Scope.READ):
            await self.close(FORBIDDEN, "scope_missing")
            return
        if _open.get(key.pk, 0) >= _MOST:
            await self.close(TOO_MANY, "rate_limited")
            return
        self._key = key
        _open[key.pk] = _open.get(key.pk, 0) + 1
        self._task = asyncio.get_running_loop().create_task(self._stream(position))

    async def disconnect(self, code: int) -> None:
        """Forget it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._key is not None:
            _open[self._key.pk] -= 1

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Nothing is expected from a reader."""

    async def _begin(self) -> int:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        given = query.get("cursor", [""])[0]
        if not given:
            return await database_sync_to_async(_newest)()
        if not (given.isascii() and given.isdigit() and len(given) < 19):
            raise Refused("invalid_cursor")
        return int(given)

    async def _stream(self, position: int) -> None:
        assert self._key is not None
        checked = time.monotonic()
        while True:
            try:
                if time.monotonic() - checked > _RECHECK:
                    checked = time.monotonic()
                    if not await database_sync_to_async(_still_valid)(self._key.pk):
                        await self.close(NO_KEY, "key_invalid")
                        return
                events, after = await database_sync_to_async(read_after)(self._key, position, _BATCH)
            except DatabaseError:
                _log.warning("The event stream could not be read", exc_info=True)
                await asyncio.sleep(2)
                continue
            for event in events:
                await self.send(json.dumps(event, cls=DjangoJSONEncoder, ensure_ascii=False))
            if after == position:
                await asyncio.sleep(settings.WATCH_INTERVAL.total_seconds())
            position = after


def _newest() -> int:
    Event.objects.publish()
    return int(Event.objects.aggregate(newest=Max("position"))["newest"] or 0)


def _still_valid(pk: int) -> bool:
    return ApiKey.objects.valid(timezone.now()).filter(pk=pk).exists()
