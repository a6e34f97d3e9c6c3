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

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.explanations import explain
from sessions_app.models import Host, Session, SessionCommand
from sessions_app.states import State
from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.client import WhatsAppError
from waserver import backup, guard, preparation, tree
from waserver.damage import quarantine
from waserver.store_check import Verdict, check

#: Free room below which nothing is begun, in bytes; a backup asks for its own.
ROOM = 50_000_000
BY = "recover"
_STALE = "The system was recovered meanwhile: ask again."
_VERDICTS = {
    Verdict.MISSING: lazy("missing"), Verdict.DAMAGED: lazy("damaged"), Verdict.EMPTY: lazy("empty"),
    Verdict.UNREADABLE: lazy("unreadable"),
}  # fmt: skip

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
            raise CommandError(_("Another recovery is under way here: wait for it to end."))
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
    report.say(_("Settings, permissions, disk space and the database are in order."))
    stores = {row: row.store_path for row in Session.objects.select_related("account", "host").exclude(store="")}
    try:
        verdicts = check(list(stores.values()))
    except WhatsAppError as error:
        raise CommandError(f"{error} " + _("Nothing was changed.")) from None
    bad = {session: verdicts[path] for session, path in stores.items() if verdicts[path][0] is not Verdict.WHOLE}
    counts = {"whole": len(stores) - len(bad), "count": len(stores)}
    report.say(_("Device stores: %(whole)d of %(count)d are whole.") % counts)
    for session, (verdict, text) in bad.items():
        report.say(f"  {session}: {_VERDICTS[verdict]} ({text})")
    return bad


def _check_owner() -> None:
    """root would leave files behind that the server's own user cannot write."""
    owner = settings.VAR_DIR.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        name = _user(owner)
        text = _(
            "%(folder)s belongs to %(name)s: run this as %(name)s, for example with `sudo -u %(name)s ...`; files made "
            "by root would stop the server."
        )
        raise CommandError(text % {"folder": settings.VAR_DIR, "name": name})
    for file in [settings.VAR_DIR, settings.DEVICES_DIR, *settings.DEVICES_DIR.glob("*.sqlite3*")]:
        if not os.access(file, os.R_OK | os.W_OK):
            text = _(
                "No permission to read and write %(file)s (it belongs to %(name)s): run this as that user, or give the "
                "file back. Nothing was changed."
            )
            raise CommandError(text % {"file": file, "name": _user(file.stat().st_uid)})


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return _("user %(id)d") % {"id": uid}


def _check_room() -> None:
    for folder in {settings.VAR_DIR, settings.LOG_DIR}:
        free = shutil.disk_usage(folder).free
        if free < ROOM:
            text = _(
                "Only %(free).0f MB are free in %(folder)s, and at least %(least).0f MB are needed: make room, then "
                "run this again. Nothing was changed."
            )
            raise CommandError(text % {"free": free / 1e6, "folder": folder, "least": ROOM / 1e6})


def _check_database() -> None:
    try:
        problems = _sqlite_problems() if connection.vendor == "sqlite" else _mysql_problems()
    except DatabaseError as error:
        problems = [str(error)]
    if problems:
        text = _(
            "The database is damaged or cannot be read (%(problem)s). Restore it: `manage.py backup list`, then "
            "`manage.py backup restore`. Nothing was changed."
        )
        raise CommandError(text % {"problem": problems[0]})


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
                report.say(_("Everything was stopped."))
            else:
                report.say(_("Nothing was running."))
            bad = look(Report(lambda _sentence: None))  # again: nobody writes any more
            _back_up(report)
            _set_aside(report, bad)
            released_at = timezone.now()
            _release(report, released_at)
            if not foreground:
                _clear_locks(report)
            preparation.check_port()
            report.say(preparation.set_up().strip() or _("The database has all migrations."))
            if foreground:
                tree.start_programs()
            else:
                tree.start()
        report.say(_("The server was started, under supervision."))
        await_sessions(report, released_at, wait)
        report.say(_("Recovered in %(seconds).1f s.") % {"seconds": time.monotonic() - began})


def _back_up(report: Report) -> None:
    try:
        made = backup.create("recover")
    except backup.BackupError as error:
        text = _(
            "The backup before the recovery failed: %(error)s The server is stopped and everything else as it was: "
            "mend that and run this again, or start without recovery with `manage.py server start`."
        )
        raise CommandError(text % {"error": error}) from None
    place = f"{made.url}/{made.name}"
    report.say(_("Backed up to %(place)s (%(size).1f MB).") % {"place": place, "size": made.size / 1e6})


def _set_aside(report: Report, bad: Mapping[Session, tuple[Verdict, str]]) -> None:
    for session, (verdict, text) in bad.items():
        if verdict is Verdict.UNREADABLE:
            place = session.store_path if device_store.is_file(session.store) else session.store
            sentence = _("%(session)s: its keys cannot be read (%(problem)s): look at %(place)s.")
            report.person(sentence % {"session": session, "problem": text, "place": place})
        if verdict is not Verdict.DAMAGED:
            continue
        Session.objects.filter(pk=session.pk, host__in=_ours()).update(host=None, lease_expires_at=None)
        if (lies := quarantine(session, text, BY)) is None:
            sentence = _("%(session)s: its keys are damaged, but host %(host)s on another machine uses them.")
            report.person(sentence % {"session": session, "host": session.host})
        else:
            sentence = _("%(session)s: its keys are damaged (%(problem)s); they were set aside in %(place)s.")
            report.say(sentence % {"session": session, "problem": text, "place": lies})


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
    counts = {"released": released, "closed": closed}
    report.say(_("%(released)d leases were given back, %(closed)d open commands closed.") % counts)
    for host in Host.objects.filter(draining=True):
        sentence = _("Host %(host)s is draining, so it takes no sessions: end that in the admin when it is not wanted.")
        report.person(sentence % {"host": host})


def _clear_locks(report: Report) -> None:
    """What a killed process leaves behind. Locks proper end with their process; these are files."""
    found = [path for pattern in ("*.pid", "*.sock*", "*.new") for path in settings.RUN_DIR.glob(pattern)]
    for path in found:
        path.unlink(missing_ok=True)
    if found:
        report.say(_("Removed %(names)s.") % {"names": ", ".join(path.name for path in found)})


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
    report.say(_("%(back)d of %(wanted)d sessions are connected again, after %(seconds).1f s.") % {
        "back": len(back), "wanted": len(wanted), "seconds": time.monotonic() - began,
    })  # fmt: skip
    now = timezone.now()
    missing = Session.objects.select_related("account", "host").filter(account__desired="online").exclude(pk__in=back)
    for session in missing:
        words = explain(session, now)
        report.person(f"{session}: {words.sentence} {words.what_to_do}".strip())
