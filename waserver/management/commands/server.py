"""`manage.py server`: run the whole server on this machine, and look after it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.management.commands.sessions import find
from sessions_app.management.output import OurCommand
from waserver import health, preparation, rolling, status, tree
from waserver.log_reading import Entry, Group, age, follow, grouped, read
from waserver.supervision import server_url, write_config

_WHAT = {
    "run": lazy("in the foreground, until Ctrl-C; everything is restarted when it ends (the same as monitor)"),
    "monitor": lazy("in the foreground, until Ctrl-C; everything is restarted when it ends"),
    "start": lazy("in the background"),
    "stop": lazy("end it gracefully, within 30 s"),
    "restart": lazy(
        "everything, or one program by its name; --rolling: the hosts one after the other, no session lost"
    ),
    "status": lazy("uptime, memory, restarts, sessions of every program"),
    "health": lazy("what is wrong, if anything: exit code 0 healthy, 1 degraded, 2 not working"),
    "logs": lazy("the logs of all programs in one; --errors: the errors grouped by cause"),
    "setup": lazy("migrate, collect static files, make the first staff user; then end"),
    "record": lazy("write what the guard saw into the database (the guard calls this)"),
}
_LEVELS = {health.Level.DEGRADED: lazy("degraded"), health.Level.BROKEN: lazy("broken")}


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Run the whole server on this machine: web, cluster and session hosts, under supervisord."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        added = {what: commands.add_parser(what, help=str(text)) for what, text in _WHAT.items()}
        added["restart"].add_argument("program", nargs="?", default="", help=_("web, cluster, host-1, ..."))
        added["restart"].add_argument("--rolling", action="store_true", help=_("hosts, one after the other"))
        logs = added["logs"]
        logs.add_argument("--errors", action="store_true", help=_("only errors, grouped by cause"))
        logs.add_argument("--since", default="", help=_("how far back: 30m, 2h, 3d (default 1h; with --errors 24h)"))
        logs.add_argument("--account", default="", help=_("only about this one: a session's id, label or number"))
        logs.add_argument("--program", default="",
                          help=_("only this program: web, cluster, host-1, guard, supervisord"))  # fmt: skip
        logs.add_argument("--follow", action="store_true", help=_("go on until Ctrl-C"))
        for what in ("status", "health", "logs"):
            added[what].add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['what']}")(options)

    # -- start and stop

    def _run(self, options: dict[str, Any]) -> None:
        with tree.locked():
            self._prepare()
            config = write_config()
            text = _("waserver: %(url)s  ·  logs in %(folder)s  ·  Ctrl-C stops it")
            self.stdout.write("\n" + text % {"url": _url(), "folder": settings.LOG_DIR} + "\n")
            self.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "waserver.foreground", str(config), server_url()])  # noqa: S606

    _monitor = _run

    def _start(self, options: dict[str, Any]) -> None:
        with tree.locked():
            self._prepare()
            tree.start()
        text = _("waserver runs: %(url)s  ·  logs in %(folder)s  ·  `manage.py server stop` ends it")
        self.stdout.write(text % {"url": _url(), "folder": settings.LOG_DIR})

    def _stop(self, options: dict[str, Any]) -> None:
        with tree.locked():
            began = time.monotonic()
            ran = tree.stop(self.stdout.write)
        if ran:
            tree.record(stopped=True)
        stopped = _("Stopped after %(seconds).1f s.") % {"seconds": time.monotonic() - began}
        self.stdout.write(stopped if ran else _("waserver was not running."))

    def _restart(self, options: dict[str, Any]) -> None:
        if options["rolling"]:
            if options["program"]:
                raise CommandError(_("--rolling restarts the hosts, one after the other: name no program with it."))
            rolling.restart(self.stdout.write, "manage.py", "rolling restart")
        elif options["program"]:
            tree.require_running()
            tree.restart_program(options["program"])
            self.stdout.write(_("%(program)s was restarted.") % {"program": options["program"]})
        elif tree.in_foreground():
            with tree.locked():
                tree.stop_programs()
                tree.start_programs()
            self.stdout.write(_("All programs were restarted."))
        else:
            with tree.locked():
                tree.stop(self.stdout.write)
            self._start(options)

    def _setup(self, options: dict[str, Any]) -> None:
        preparation.check_library()
        self.stdout.write(preparation.set_up())

    def _prepare(self) -> None:
        tree.refuse_second()
        tree.clear(self.stdout.write)
        preparation.check_port()
        preparation.check_library()
        self.stdout.write(preparation.set_up())

    def _record(self, options: dict[str, Any]) -> None:
        self.stdout.write(_("%(count)d programs.") % {"count": tree.record()})

    # -- look

    def _status(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        lines = status.lines(tree.require_running(), now)
        if options["json"]:
            self.print_json([line.as_json() for line in lines])
            return
        self.stdout.write(_("program      state          pid      uptime   memory restarts  crashes  sessions"))
        for line in lines:
            self.stdout.write(_row(line, now))

    def _health(self, options: dict[str, Any]) -> None:
        found = health.check(timezone.now())
        if options["json"]:
            self.print_json([one.as_json() for one in found])
        for one in () if options["json"] else found:
            if one.level is not health.Level.GOOD:
                self.stdout.write(f"{str(_LEVELS[one.level]):<9} {one.name}: {one.sentence}")
        worst = max((one.level for one in found), default=health.Level.GOOD)
        if not options["json"] and worst is health.Level.GOOD:
            self.stdout.write(_("healthy: %(names)s") % {"names": ", ".join(one.name for one in found)})
        if worst is not health.Level.GOOD:
            sys.exit(int(worst))

    def _logs(self, options: dict[str, Any]) -> None:
        try:
            since = timezone.now() - age(options["since"] or ("24h" if options["errors"] else "1h"))
        except ValueError as error:
            raise CommandError(str(error)) from None
        sessions, words = _account(options["account"]) if options["account"] else (set(), set())

        def wanted(entry: Entry) -> bool:
            return (not options["program"] or entry.program == options["program"]) and (
                not options["account"] or entry.is_about(sessions, words))  # fmt: skip

        entries = [entry for entry in read(settings.LOG_DIR, since) if wanted(entry)]
        if options["errors"]:
            self._causes(grouped(entries), options)
        elif options["json"]:
            self.print_json([vars(entry) for entry in entries])
        else:
            for entry in entries:
                self.stdout.write(entry.shown())
        if options["follow"]:
            self._follow(wanted, options["errors"])

    def _causes(self, groups: list[Group], options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json([{"cause": one.cause, "count": one.count, "programs": sorted(one.program),
                              "sessions": sorted(one.sessions), "first": one.first, "last": one.last and one.last.at,
                              "example": one.last and one.last.shown()} for one in groups])  # fmt: skip
            return
        if not groups:
            self.stdout.write(_("No errors."))
        for one in groups:
            assert one.last is not None
            sessions = ", ".join(map(str, sorted(one.sessions)))
            about = _(", sessions %(sessions)s") % {"sessions": sessions} if sessions else ""
            when = _("first %(first)s, last %(last)s UTC") % {
                "first": f"{one.first:%Y-%m-%d %H:%M:%S}", "last": f"{one.last.at:%Y-%m-%d %H:%M:%S}",
            }  # fmt: skip
            self.stdout.write(f"{one.count:>5} x {one.cause}\n        {', '.join(sorted(one.program))}{about}; {when}")

    def _follow(self, wanted: Callable[[Entry], bool], errors: bool) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            for entries in follow(settings.LOG_DIR):
                for entry in entries:
                    if wanted(entry) and (entry.is_error or not errors):
                        self.stdout.write(entry.shown())
                self.stdout.flush()
                time.sleep(0.5)


def _url() -> str:
    return f"http://{settings.BIND}:{settings.PORT}/"


def _account(text: str) -> tuple[set[int], set[str]]:
    """Return the ids and words by which log lines name an account."""
    session = find(text)
    return {session.pk}, {word for word in (session.account.label, session.account.phone) if word}


def _row(line: status.Line, now: datetime) -> str:
    notes = []
    if line.sessions is not None:
        text = _("%(connected)d of %(wanted)d connected")
        notes.append(text % {"connected": line.connected, "wanted": line.sessions})
    if line.region:
        notes.append(_("region %(region)s") % {"region": line.region})
    if line.retry_at:
        notes.append(_("next trial in %(seconds).0f s") % {"seconds": (line.retry_at - now).total_seconds()})
    if line.crashes and line.last_exit:
        notes.append(_("last ended: %(how)s") % {"how": line.last_exit})
    return (
        f"{line.name:<13}{line.state:<10}{line.pid or '':>8}{_duration(line.uptime):>12}"
        f"{line.memory / 2**20:>6.0f} MB{line.restarts:>9}{line.crashes:>9}  " + ", ".join(notes)
    ).rstrip()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
