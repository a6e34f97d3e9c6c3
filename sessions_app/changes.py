"""Hints that a session changed: after commit, to whoever watches. The row stays the truth."""

from __future__ import annotations

import asyncio
import logging

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction

from accounts.pause import PATIENCE, Pause

_log = logging.getLogger(__name__)

#: The group every watching web process is in.
GROUP = "sessions"
_pause = Pause()


def announce(*ids: int) -> None:
    """Tell, once the transaction is committed, that these sessions changed.

    Without Redis nobody outside this process could hear it: then the watching page's timer finds it.
    """
    if settings.REDIS_URL and ids:
        transaction.on_commit(lambda: _send(ids))


def _send(ids: tuple[int, ...]) -> None:
    layer = get_channel_layer()

    async def send() -> None:
        for session_id in ids:
            await layer.group_send(GROUP, {"type": "session.changed", "id": session_id})

    if not _pause.over:
        return
    try:
        asyncio.run(asyncio.wait_for(send(), PATIENCE))
    except Exception:  # noqa: BLE001 - a hint only; the timer reads the row anyway
        _pause.begin()
        _log.warning("Could not send a change hint", exc_info=True)
