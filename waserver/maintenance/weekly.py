"""Weekly: restart the hosts one after the other, delete what was in quarantine long enough, archive old logs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_app import cleanup
from sessions_app.models import Host, Session
from sessions_app.states import State
from waserver import rolling
from waserver.maintenance import window
from waserver.maintenance.outcome import Outcome

_ACTOR = "maintenance"
_REASON = "weekly preventive restart"


def restart(now: datetime, dry_run: bool) -> Outcome:
    """Restart every live host now, one after the other. Raises CommandError when one does not come back."""
    hosts = list(Host.objects.live(now).values_list("name", flat=True))
    if not hosts:
        return Outcome([_("No session host is running, so there is nothing to restart.")])
    if dry_run:
        return Outcome([_("Would be restarted, one after the other: %(hosts)s.") % {"hosts": ", ".join(hosts)}])
    lines: list[str] = []
    return Outcome(lines, counts={"restarted": rolling.restart(lines.append, _ACTOR, _REASON)})


def restart_in_window(now: datetime) -> dict[str, int]:
    """Within MAINTENANCE_WINDOW, ask the next host to restart, unless the last is not all back. A job, every minute.

    Level-triggered: whatever is missed, a later run within the window does.
    """
    chosen = window.parse(settings.MAINTENANCE_WINDOW)
    opened = chosen.opened_at(timezone.localtime(now)) if chosen else None
    if opened is None:
        return {"asked": 0}
    hosts = list(Host.objects.live(now))
    busy = any(host.restart_requested_at for host in hosts)
    waiting = [host for host in hosts if host.started_at is not None and host.started_at < opened]
    if busy or not waiting or _not_back(now):
        return {"asked": 0, "waiting": len(waiting)}
    return {"asked": int(waiting[0].request_restart(_ACTOR, _REASON)), "waiting": len(waiting) - 1}


def stores(now: datetime, dry_run: bool) -> Outcome:
    """Delete the device stores that were in quarantine for 7 days."""
    folder = settings.DEVICES_DIR / "quarantine"
    if dry_run:
        old = [file for file in folder.glob("*.sqlite3") if now - _modified(file) > cleanup.QUARANTINE]
        line = _("%(count)d device stores would be deleted.") % {"count": len(old)}
        return Outcome([line], counts={"stores_deleted": 0})
    deleted = cleanup.empty_quarantine(now)
    left = len(list(folder.glob("*.sqlite3")))
    line = _("%(deleted)d device stores deleted, %(left)d younger ones kept.") % {"deleted": deleted, "left": left}
    return Outcome([line], counts={"stores_deleted": deleted})


def restored(now: datetime, dry_run: bool) -> Outcome:
    """Delete what a restore put into quarantine, 7 days later."""
    folders = [folder for folder in (settings.VAR_DIR / "quarantine").glob("restore-*")
               if now - _modified(folder) > cleanup.QUARANTINE]  # fmt: skip
    if dry_run:
        return Outcome([_("%(count)d replaced states would be deleted.") % {"count": len(folders)}])
    for folder in folders:
        shutil.rmtree(folder)
    line = _("%(count)d replaced states deleted.") % {"count": len(folders)}
    return Outcome([line], counts={"replaced_deleted": len(folders)})


def logs(now: datetime, dry_run: bool) -> Outcome:
    """Compress rotated logs nobody wrote to for LOG_RETENTION."""
    if dry_run:
        old = [file for file in settings.LOG_DIR.glob("*.log.*")
               if file.suffix != ".gz" and now - _modified(file) >= settings.LOG_RETENTION]  # fmt: skip
        return Outcome([_("%(count)d logs would be compressed.") % {"count": len(old)}])
    compressed = cleanup.compress_logs(now)
    return Outcome([_("%(count)d logs compressed.") % {"count": compressed}], counts={"logs": compressed})


def _not_back(now: datetime) -> bool:
    """Return whether a session that may be connected is not: then the last restart is not over."""
    wanted = Session.objects.wanted_online().exclude(state=State.CONNECTED)
    return wanted.filter(retry_at=None, state__in=[State.CONNECTING, State.RECONNECTING, State.STOPPED]).exists()


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
