"""A device store that is damaged: set aside, never deleted, and its session waits for a person."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from sessions_app import changes
from sessions_app.models import Session
from sessions_app.transition import FIELDS, apply
from sessions_app.whatsapp.client import Kind, Observation

HOLD = "store_damaged"
_PARTS = ("-wal", "-shm", "-journal", "")  # the file itself last: it marks the move as complete


def quarantine(session: Session, problem: str, by: str) -> Path | None:
    """Move the store to devices/quarantine/damaged, which nothing ever empties, and hold the session.

    Returns where it lies now; None when a host owns the session, and then nothing was changed.
    """
    with transaction.atomic():
        # No host: nobody can have the file open, and only this transaction can give the session to one.
        row = Session.objects.select_for_update().select_related("account").filter(pk=session.pk, host=None).first()
        if row is None:
            return None
        seen = Observation(Kind.STOPPED, None, {"reason": HOLD, "hold": HOLD, "error": problem[:200], "by": by})
        event = apply(row, seen, 0.0).event
        row.hold, row.retry_at = HOLD, None  # whatever state it was in
        row.due_at = None
        row.version += 1
        row.save(update_fields=[*FIELDS, "due_at", "version"])
        event.save()
        lies = _move(Path(row.store_path))
    changes.announce(session.pk)
    return lies


def _move(store: Path) -> Path:
    folder = settings.DEVICES_DIR / "quarantine" / "damaged"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target: Path = folder / store.name
    if target.exists():
        target = folder / f"{store.stem}-{timezone.now():%Y%m%d%H%M%S%f}{store.suffix}"
    for part in _PARTS:
        source = Path(f"{store}{part}")
        if source.exists():
            shutil.move(source, f"{target}{part}")
    return target
