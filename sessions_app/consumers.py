"""The WebSocket of the admin: pushes sessions to a browser as they change."""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import User

from sessions_app import changes
from sessions_app.feed import feed
from sessions_app.models import Session
from sessions_app.snapshot import VIEW, snapshot

_log = logging.getLogger(__name__)

#: A browser may watch so many sessions at once: a page of the list, and some.
_MOST = 500
#: Close code: log in (again).
LOG_IN = 4401
#: Seconds after which sentences are rendered again although no row changed: a lease may have run out.
_REFRESH = 10.0


class SessionConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """One browser. Origin is checked in asgi.py; log-in and permission here, at the start and before every push."""

    groups = [changes.GROUP]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watched: set[int] = set()
        self.sent: dict[int, int] = {}
        self._panel: int | None = None
        self._pushing = asyncio.Lock()
        self._refresher: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept those who may see accounts."""
        if await self._user() is None:
            await self.close(LOG_IN)
            return
        await self.accept()
        feed.add(self)
        self._refresher = asyncio.get_running_loop().create_task(self._refresh())

    async def disconnect(self, code: int) -> None:
        """Forget it."""
        feed.remove(self)
        if self._refresher is not None:
            self._refresher.cancel()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Watch {"watch": [ids], "panel": id or null}; everything is sent afresh."""
        watch = content.get("watch") if isinstance(content, dict) else None
        if not isinstance(watch, list) or not all(isinstance(pk, int) for pk in watch):
            await self.close(4400)
            return
        panel = content.get("panel")
        self._panel = panel if isinstance(panel, int) else None
        self.watched = {*watch[:_MOST], *([self._panel] if self._panel else [])}
        self.sent.clear()
        feed.hint()

    async def session_changed(self, event: dict[str, Any]) -> None:
        """A hint arrived over the channel layer."""
        if event["id"] in self.watched:
            feed.hint()

    async def push(self, ids: list[int]) -> None:
        """Send these sessions as they are now, or close when the user may not see them any more."""
        async with self._pushing:
            shown = await self._shown(ids)
            if shown is None:
                feed.remove(self)
                await self.close(LOG_IN)
                return
            for session in shown:
                self.sent[session["id"]] = session["version"]
                await self.send_json(session)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH)
            self.sent.clear()
            feed.hint()

    @database_sync_to_async
    def _user(self) -> User | None:
        return _allowed(self.scope)

    @database_sync_to_async
    def _shown(self, ids: list[int]) -> list[dict[str, Any]] | None:
        user = _allowed(self.scope)
        if user is None:
            return None
        rows = Session.objects.select_related("account", "host").filter(pk__in=ids)
        return [snapshot(row, user, row.pk == self._panel) for row in rows]


def _allowed(scope: Any) -> User | None:
    """Return the user as the database knows it now, or None when logged out, disabled or without permission."""
    user = scope.get("user")
    session = scope.get("session")
    if user is None or not user.is_authenticated or session is None:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore
    if not store().exists(session.session_key):
        return None
    fresh = User.objects.filter(pk=user.pk, is_active=True, is_staff=True).first()
    return fresh if fresh is not None and fresh.has_perm(VIEW) else None
