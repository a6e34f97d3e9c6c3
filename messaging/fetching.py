"""Fetching media that a message names by its https address, before it is sent."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, transaction
from django.utils import timezone

from messaging import hints, outgoing
from messaging.accept import fitting
from messaging.errors import Refused
from messaging.kinds import Kind
from messaging.models import Media, MediaState, Message
from messaging.outgoing import CallFailed
from messaging.sniff import ENOUGH
from messaging.states import MessageState

_log = logging.getLogger(__name__)

_TIMEOUT = timedelta(seconds=60)
#: Pauses after the first, second, ... failure; then it is given up.
_PAUSES = (timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=60))
_THREADS = 4


class Fetcher:
    """Fetches a few files at once; a slow server holds up its own message only."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetcher")
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def go(self) -> bool:
        """Start on files that are due; return whether there was one."""
        due = Media.objects.filter(state=MediaState.WANTED, next_at__lte=timezone.now()).order_by("pk")
        started = False
        for media in due[: 2 * _THREADS]:
            with self._lock:
                if media.pk in self._busy:
                    continue
                self._busy.add(media.pk)
            self._pool.submit(self._work, media)
            started = True
        return started

    def stop(self) -> None:
        """Finish what is under way, begin no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, media: Media) -> None:
        try:
            fetch(media)
        except Exception:  # noqa: BLE001 - one file must not end the others
            _log.exception("A file could not be fetched (media %d)", media.pk)
            Media.objects.filter(pk=media.pk).update(next_at=timezone.now() + _PAUSES[-1])
        finally:
            with self._lock:
                self._busy.discard(media.pk)
            close_old_connections()


def fetch(media: Media) -> None:
    """Fetch one file, or note when to try again, or fail the messages that want it."""
    try:
        answer = outgoing.fetch(media.url, settings.MEDIA_MAX_BYTES, _TIMEOUT)
        if not answer.body:
            raise Refused("media_empty")
        declared = media.mime or answer.headers.get("content-type", "")
        mime = fitting(Kind(media.kind), answer.body[:ENOUGH], declared)
    except Refused as refused:
        give_up(media, refused.code, refused.sentence)
    except CallFailed as failed:
        if media.attempts >= len(_PAUSES):
            give_up(media, "media_fetch_failed", f"The address of the file could not be fetched: {failed}")
            return
        media.attempts, media.next_at = media.attempts + 1, timezone.now() + _PAUSES[media.attempts]
        media.save(update_fields=["attempts", "next_at"])
    else:
        media.fetched(answer.body, mime)
        hints.queued()


def give_up(media: Media, code: str, error: str) -> None:
    """Fail what wants this file."""
    with transaction.atomic():
        media.state, media.next_at = MediaState.FAILED, None
        media.save(update_fields=["state", "next_at"])
        wanting = Message.objects.select_related("account", "chat", "media", "target")
        for message in wanting.filter(media=media, state=MessageState.QUEUED):
            message.fail(code, error)
