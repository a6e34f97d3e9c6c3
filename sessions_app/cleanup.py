"""cleanup: every 10 minutes, what nobody else ends. It never deletes a device key that could still be of use."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from sessions_app.models import Session, SessionCommand, SessionEvent
from sessions_app.models.event import MARKED, REFUSED
from sessions_app.states import State
from sessions_app.whatsapp import postgres_store

_log = logging.getLogger(__name__)

#: A command no host took for so long is closed with an error.
COMMAND_PATIENCE = timedelta(hours=1)
COMMAND_RETENTION = timedelta(days=7)
#: A store may not be in its row yet while a pairing is under way.
STORE_PATIENCE = timedelta(hours=1)
QUARANTINE = timedelta(days=7)
_CHUNK = 1000


def cleanup(now: datetime) -> dict[str, int]:
    """Do all of it; return how much of each."""
    return {
        "stuck": mark_stuck(now),
        "commands": close_commands(now),
        "events": delete_events(now),
        "quarantined": quarantine_stores(now) + quarantine_schemas(now),
        "stores_deleted": empty_quarantine(now) + empty_schemas(now),
        "logs": compress_logs(now),
    }


def mark_stuck(now: datetime) -> int:
    """Have somebody look at pairings past their window and log-ins past the connect time-out."""
    pairing = Q(state=State.PAIRING, pairing_expires_at__lt=now)
    connecting = Q(state=State.CONNECTING, state_changed_at__lt=now - settings.CONNECT_TIMEOUT)
    stuck = Session.objects.filter(pairing | connecting, due_at=None)
    with transaction.atomic():
        rows = list(stuck.select_for_update())
        marked = stuck.update(due_at=now, version=F("version") + 1)
        SessionEvent.objects.bulk_create(row.own_event(MARKED, "cleanup", "stuck", now) for row in rows)
    return marked


def close_commands(now: datetime) -> int:
    """Close commands nobody took, and forget those finished long ago."""
    sentence = "No session host took this request within an hour. Start the server and ask again."
    old = SessionCommand.objects.filter(finished_at=None, created_at__lt=now - COMMAND_PATIENCE)
    with transaction.atomic():
        unserved = list(old.select_for_update().select_related(None))
        closed = old.update(finished_at=now, error=sentence)
        sessions = Session.objects.in_bulk({command.session_id for command in unserved})
        SessionEvent.objects.bulk_create(
            sessions[command.session_id].own_event(REFUSED, "cleanup", command.verb, now, error=sentence)
            for command in unserved
        )
    SessionCommand.objects.filter(finished_at__lt=now - COMMAND_RETENTION).delete()
    return closed


def delete_events(now: datetime) -> int:
    """Delete events older than EVENT_RETENTION, in small transactions."""
    deleted = 0
    old = SessionEvent.objects.filter(at__lt=now - settings.EVENT_RETENTION)
    while ids := list(old.order_by("pk").values_list("pk", flat=True)[:_CHUNK]):
        deleted += SessionEvent.objects.filter(pk__in=ids).delete()[0]
    return deleted


def quarantine_stores(now: datetime) -> int:
    """Move device stores that no session refers to into quarantine, where they can be taken back from for 7 days."""
    folder, moved = settings.DEVICES_DIR, 0
    files = [f for f in folder.glob("*.sqlite3") if now - _modified(f) > STORE_PATIENCE]
    if not files:
        return 0
    # The rows are read after the files: a store in use is in its row by now.
    used = {name for row in Session.objects.values_list("store", "pairing_store") for name in row}
    for file in files:
        if file.name in used:
            continue
        quarantine = folder / "quarantine"
        quarantine.mkdir(mode=0o700, exist_ok=True)
        _log.info("No session refers to the device store %s: it goes into quarantine", file.name)
        for suffix in ("-wal", "-shm", ""):  # the file itself last: it marks the move as complete
            part = Path(f"{file}{suffix}")
            if part.exists():
                shutil.move(part, quarantine / part.name)
        os.utime(quarantine / file.name, (now.timestamp(), now.timestamp()))
        moved += 1
    return moved


def empty_quarantine(now: datetime) -> int:
    """Delete stores that were in quarantine for 7 days."""
    deleted = 0
    for file in (settings.DEVICES_DIR / "quarantine").glob("*.sqlite3"):
        if now - _modified(file) > QUARANTINE:
            for suffix in ("-wal", "-shm", ""):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            deleted += 1
    return deleted


def quarantine_schemas(now: datetime) -> int:
    """Do the same for device stores in PostgreSQL: their schemas are renamed."""
    if not settings.DEVICE_STORE_URL:
        return 0
    with postgres_store.settled(settings.DEVICE_STORE_URL) as settled:
        if not settled:
            _log.info("Device stores are being restored: those no session refers to are left for the next time")
            return 0
        stores, moved = postgres_store.names(settings.DEVICE_STORE_URL), 0
        used = {name for row in Session.objects.values_list("store", "pairing_store") for name in row}
        for name, made in stores.items():
            if name not in used and now - datetime.fromtimestamp(made, UTC) > STORE_PATIENCE:
                _log.info("No session refers to the device store %s: it goes into quarantine", name)
                postgres_store.quarantine(settings.DEVICE_STORE_URL, name, now.timestamp())
                moved += 1
    return moved


def empty_schemas(now: datetime) -> int:
    """Drop schemas that were in quarantine for 7 days."""
    if not settings.DEVICE_STORE_URL:
        return 0
    return postgres_store.empty_quarantine(settings.DEVICE_STORE_URL, (now - QUARANTINE).timestamp())


def compress_logs(now: datetime) -> int:
    """Compress rotated logs nobody wrote to for LOG_RETENTION."""
    compressed = 0
    for file in settings.LOG_DIR.glob("*.log.*"):
        if file.suffix == ".gz" or now - _modified(file) < settings.LOG_RETENTION:
            continue
        target = Path(f"{file}.gz")
        with file.open("rb") as plain, gzip.open(target, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        target.chmod(0o600)
        file.unlink()
        compressed += 1
    return compressed


def _modified(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
