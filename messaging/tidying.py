"""tidy_messages: every 10 minutes, what has outlived its time of retention, in small transactions."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Model, QuerySet

from messaging.models import Delivery, DeliveryState, Event, HostRequest, Media, Message
from messaging.models.media import unused
from messaging.states import MessageState

_log = logging.getLogger(__name__)

_CHUNK = 500
#: Rows of one kind deleted in one run: a run is short, and the next one goes on.
_MOST = 20_000
#: A file may be uploaded now and sent with a message later.
UNSENT = timedelta(days=1)
DELIVERIES, REQUESTS = timedelta(days=30), timedelta(days=1)


def tidy(now: datetime) -> dict[str, int]:
    """Do all of it; return how much of each."""
    finished = Delivery.objects.exclude(state=DeliveryState.PENDING)
    moving = [MessageState.QUEUED, MessageState.SENDING]
    return {
        "requests": _delete(HostRequest.objects.filter(created_at__lt=now - REQUESTS)),
        "deliveries": _delete(finished.filter(created_at__lt=now - DELIVERIES)),
        "messages": _delete(Message.objects.filter(created_at__lt=now - settings.MESSAGE_RETENTION)
                            .exclude(state__in=moving)),
        "events": _delete(Event.objects.filter(at__lt=now - settings.EVENT_RETENTION)
                          .exclude(deliveries__state=DeliveryState.PENDING)),
        "unlinked": _unlink(now),
        "files": _delete_files(now),
    }  # fmt: skip


def _delete(rows: QuerySet[Model]) -> int:
    deleted = 0
    while deleted < _MOST and (pks := list(rows.order_by("pk").values_list("pk", flat=True)[:_CHUNK])):
        rows.model._default_manager.filter(pk__in=pks).delete()
        deleted += len(pks)
    return deleted


def _unlink(now: datetime) -> int:
    """Let go of files of messages past MEDIA_RETENTION; the messages stay."""
    old = Message.objects.filter(created_at__lt=now - settings.MEDIA_RETENTION, media__isnull=False)
    old = old.exclude(state__in=[MessageState.QUEUED, MessageState.SENDING])
    pks = list(old.values_list("pk", flat=True)[:_MOST])
    return Message.objects.filter(pk__in=pks).update(media=None) if pks else 0


def _delete_files(now: datetime) -> int:
    """Delete files nobody refers to any more; the row first, so that no row promises bytes that are gone."""
    gone = 0
    for media in unused(now - UNSENT).filter(bulks=None)[:_CHUNK]:
        path, file = media.path, media.file
        media.delete()
        if path and not Media.objects.filter(path=path).exists():
            file.unlink(missing_ok=True)
            gone += 1
    return gone + _delete_strays(now)


def _delete_strays(now: datetime) -> int:
    """Delete what a process that was killed while writing left behind."""
    gone = 0
    for part in Path(settings.MEDIA_DIR).glob("*/*.part"):
        if now.timestamp() - part.stat().st_mtime > UNSENT.total_seconds():
            part.unlink(missing_ok=True)
            gone += 1
    return gone
