"""Recovery of the whole system on this machine: look, stop, verify, back up, clear, start, wait.

Until everything has been looked at and backed up nothing is changed, and what cannot be had again (device keys) is
never deleted. Steps report what they did and what is left for a person.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from sessions_app.explanations import explain
from sessions_app.models import Host, Session, SessionCommand
from sessions_app.states import State
from waserver import backup, guard, preparation, tree
from waserver.damage import quarantine
from waserver.store_check import Verdict, check

#: Free room below which nothing is begun, in bytes; a backup asks for its own.
ROOM = 50_000_000
BY = "recover"
_STALE = "The system was recovered meanwhile: ask again."

Say = Callable[[str], object]


@dataclass
class Report:
    """What was done, and what a person has to do."""

    say: Say
    left: list[str] = field(default_factory=list)

    def person(self, sentence: str) -> None:
        """Add to what is left."""
        self.left.append(sentence)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Only one recovery at a time. Raises CommandError."""
    with guard.lock(settings.RUN_DIR, "recover.lock") as mine:
        if not mine:
            raise CommandError("Another recovery is under way here: wait for it to end.")
        yield


# -- look: changes nothing, may run beside the server


def look(report: Report) -> Mapping[Session, tuple[Verdict, str]]:
    """Check settings, permissions, room, database and device stores; return what is wrong with which store.

    Raises CommandError when it would be unsafe, or of no use, to go on.
    """
    _check_owner()
    _check_room()
    preparation.check_library()
    _check_database()
    report.say("Settings, permissions, disk space and the database are in order.")
    stores = {session: Path(session.store_path) for session in _with_files()}
    verdicts = check(list(stores.values()))
    bad = {session: verdicts[path] for session, path in stores.items() if verdicts[path][0] is not Verdict.WHOLE}
    report.say(f"Device stores: {len(stores) - len(bad)} of {len(stores)} are whole.")
    for session, (verdict, text) in bad.items():
        report.say(f"  {session}: {verdict} ({text})")
    return bad


def _check_owner() -> None:
    """root would leave files behind that the server's own user cannot write."""
    owner = settings.VAR_DIR.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        name = _user(owner)
        raise CommandError(f"{settings.VAR_DIR} belongs to {name}: run this as {name}, for example with "
                           f"`sudo -u {name} ...`; files made by root would stop the server.")  # fmt: skip
    for file in [settings.VAR_DIR, settings.DEVICES_DIR, *settings.DEVICES_DIR.glob("*.sqlite3*")]:
        if not os.access(file, os.R_OK | os.W_OK):
            raise CommandError(f"No permission to read and write {file} (it belongs to {_user(file.stat().st_uid)}): "
                               "run this as that user, or give the file back. Nothing was changed.")  # fmt: skip


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _check_room() -> None:
    for folder in {settings.VAR_DIR, settings.LOG_DIR}:
        free = shutil.disk_usage(folder).free
        if free < ROOM:
            raise CommandError(f"Only {free / 1e6:.0f} MB are free in {folder}, and at least {ROOM / 1e6:.0f} MB are "
                               "needed: make room, then run this again. Nothing was changed.")  # fmt: skip


def _check_database() -> None:
    try:
        problems = _sqlite_problems() if connection.vendor == "sqlite" else _mysql_problems()
    except DatabaseError as error:
        problems = [str(error)]
    if problems:
        raise CommandError(
            f"The database is damaged or cannot be read ({problems[0]}). Restore it: `manage.py backup list`, then "
            "`manage.py backup restore`. Nothing was changed."
        )


def _sqlite_problems() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check(3)")
        return [str(row[0]) for row in cursor.fetchall() if row[0] != "ok"]


def _mysql_problems() -> list[str]:
    with connection.cursor() as cursor:
        names = ", ".join(connection.ops.quote_name(name) for name in connection.introspection.table_names(cursor))
        if not names:
            return []
        cursor.execute(f"CHECK TABLE {names}")
        return [f"{row[0]}: {row[3]}" for row in cursor.fetchall() if row[2] in ("error", "warning")]


def _with_files() -> list[Session]:
    rows = Session.objects.select_related("account", "host").exclude(store="")
    return [session for session in rows if not session.store.startswith("postgres")]


# -- act


def recover(report: Report, wait: timedelta) -> None:
    """Do it all. Raises CommandError; the sentence says how things stand."""
    with alone():
        began = time.monotonic()
        look(report)
        with tree.locked():
            foreground = tree.in_foreground()
            if foreground:
                tree.stop_programs()
            if foreground or tree.stop(report.say):
                report.say("Everything was stopped.")
            else:
                report.say("Nothing was running.")
            bad = look(Report(lambda _sentence: None))  # again: nobody writes any more
            _back_up(report)
            _set_aside(report, bad)
            released_at = timezone.now()
            _release(report, released_at)
            if not foreground:
                _clear_locks(report)
            preparation.check_port()
            report.say(preparation.set_up().strip() or "The database has all migrations.")
            if foreground:
                tree.start_programs()
            else:
                tree.start()
        report.say("The server was started, under supervision.")
        await_sessions(report, released_at, wait)
        report.say(f"Recovered in {time.monotonic() - began:.1f} s.")


def _back_up(report: Report) -> None:
    try:
        made = backup.create("recover")
    except backup.BackupError as error:
        raise CommandError(
            f"The backup before the recovery failed: {error} The server is stopped and everything else as it was: mend "
            "that and run this again, or start without recovery with `manage.py server start`."
        ) from None
    report.say(f"Backed up to {made.url}/{made.name} ({made.size / 1e6:.1f} MB).")


def _set_aside(report: Report, bad: Mapping[Session, tuple[Verdict, str]]) -> None:
    for session, (verdict, text) in bad.items():
        if verdict is Verdict.UNREADABLE:
            report.person(f"{session}: the file with its keys cannot be read ({text}): look at {session.store_path}.")
        if verdict is not Verdict.DAMAGED:
            continue
        Session.objects.filter(pk=session.pk, host__in=_ours()).update(host=None, lease_expires_at=None)
        if (lies := quarantine(session, text, BY)) is None:
            report.person(f"{session}: its keys are damaged, but host {session.host} on another machine uses them.")
        else:
            report.say(f"{session}: its keys are damaged ({text}); they were set aside in {lies}.")


def _ours() -> list[Host]:
    """Return the hosts that cannot be alive: all of this machine's were stopped, others have gone silent."""
    now = timezone.now()
    return [host for host in Host.objects.all() if host.machine == tree.machine() or not host.is_live(now)]


def _release(report: Report, now: datetime) -> None:
    """Give back the leases of hosts that are gone, and close what was asked of them."""
    with transaction.atomic():
        ours = _ours()
        released = sum(host.release_all(now) for host in ours)
        Host.objects.filter(pk__in=[host.pk for host in ours], ended_at=None).update(ended_at=now, sessions=0)
        stale = SessionCommand.objects.filter(finished_at=None, session__host=None)
        closed = stale.update(finished_at=now, error=_STALE)
    report.say(f"{released} leases were given back, {closed} open commands closed.")
    for host in Host.objects.filter(draining=True):
        report.person(f"Host {host} is draining, so it takes no sessions: end that in the admin when it is not wanted.")


def _clear_locks(report: Report) -> None:
    """What a killed process leaves behind. Locks proper end with their process; these are files."""
    found = [path for pattern in ("*.pid", "*.sock*", "*.new") for path in settings.RUN_DIR.glob(pattern)]
    for path in found:
        path.unlink(missing_ok=True)
    if found:
        report.say("Removed " + ", ".join(path.name for path in found) + ".")


def await_sessions(report: Report, released_at: datetime, wait: timedelta) -> None:
    """Wait until the sessions that can come back have connected since their leases were given back.

    What a killed host left in the rows does not count: a row says connected until a host has looked at it again.
    """
    wanted = set(Session.objects.wanted_online().exclude(store="").values_list("pk", flat=True))
    elsewhere = Q(host__in=Host.objects.live(released_at).exclude(machine=tree.machine()))
    began, deadline = time.monotonic(), timezone.now() + wait
    while True:
        now, rows = timezone.now(), Session.objects.filter(pk__in=wanted)
        held = rows.filter(state=State.CONNECTED, lease_expires_at__gt=now)
        back = set(held.filter(Q(connected_at__gte=released_at) | elsewhere).values_list("pk", flat=True))
        settled = set(rows.filter(~Q(hold="") | Q(retry_at__gt=deadline)).values_list("pk", flat=True))
        if not wanted - back - settled or now > deadline:
            break
        time.sleep(0.3)
    report.say(f"{len(back)} of {len(wanted)} sessions are connected again, after {time.monotonic() - began:.1f} s.")
    now = timezone.now()
    missing = Session.objects.select_related("account", "host").filter(account__desired="online").exclude(pk__in=back)
    for session in missing:
        words = explain(session, now)
        report.person(f"{session}: {words.sentence} {words.what_to_do}".strip())
