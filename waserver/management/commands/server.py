"""`manage.py server`: run the whole server on this machine, and look after it."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from sessions_app.management.output import OurCommand
from waserver import preparation, rolling, status, tree
from waserver.supervision import server_url, write_config

_WHAT = {
    "run": "in the foreground, until Ctrl-C; everything is restarted when it ends (the same as monitor)",
    "monitor": "in the foreground, until Ctrl-C; everything is restarted when it ends",
    "start": "in the background",
    "stop": "end it gracefully, within 30 s",
    "restart": "everything, or one program by its name; --rolling: the hosts one after the other, no session lost",
    "status": "uptime, memory, restarts, sessions of every program",
    "health": "what is wrong, if anything: exit code 0 healthy, 1 degraded, 2 not working",
    "logs": "the logs of all programs in one; --errors: the errors grouped by cause",
    "setup": "migrate, collect static files, make the first staff user; then end",
    "record": "write what the guard saw into the database (the guard calls this)",
}


class Command(OurCommand):
    help = "Run the whole server on this machine: web, cluster and session hosts, under supervisord."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        added = {what: commands.add_parser(what, help=text) for what, text in _WHAT.items()}
        added["restart"].add_argument("program", nargs="?", default="", help="web, cluster, host-1, ...")
        added["restart"].add_argument("--rolling", action="store_true", help="hosts, one after the other")
        for what in ("status", "health"):
            added[what].add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['what']}")(options)

    # -- start and stop

    def _run(self, options: dict[str, Any]) -> None:
        with tree.locked():
            self._prepare()
            config = write_config()
            self.stdout.write(f"\nwaserver: http://{settings.BIND}:{settings.PORT}/  ·  logs in {settings.LOG_DIR}  ·  "
                              "Ctrl-C stops it\n")  # fmt: skip
            self.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "waserver.foreground", str(config), server_url()])  # noqa: S606

    _monitor = _run

    def _start(self, options: dict[str, Any]) -> None:
        with tree.locked():
            self._prepare()
            tree.start()
        self.stdout.write(f"waserver runs: http://{settings.BIND}:{settings.PORT}/  ·  logs in {settings.LOG_DIR}  ·  "
                          "`manage.py server stop` ends it")  # fmt: skip

    def _stop(self, options: dict[str, Any]) -> None:
        with tree.locked():
            began = time.monotonic()
            ran = tree.stop(self.stdout.write)
        if ran:
            tree.record(stopped=True)
        self.stdout.write(f"Stopped after {time.monotonic() - began:.1f} s." if ran else "waserver was not running.")

    def _restart(self, options: dict[str, Any]) -> None:
        if options["rolling"]:
            if options["program"]:
                raise CommandError("--rolling restarts the hosts, one after the other: name no program with it.")
            rolling.restart(self.stdout.write, "manage.py", "rolling restart")
        elif options["program"]:
            tree.require_running()
            tree.restart_program(options["program"])
            self.stdout.write(f"{options['program']} was restarted.")
        elif tree.in_foreground():
            for info in tree.require_running():
                tree.restart_program(info.name)
                self.stdout.write(f"{info.name} was restarted.")
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
        self.stdout.write(f"{tree.record()} programs.")

    # -- look

    def _status(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        lines = status.lines(tree.require_running(), now)
        if options["json"]:
            self.print_json([line.as_json() for line in lines])
            return
        self.stdout.write(f"{'program':<13}{'state':<10}{'pid':>8}{'uptime':>12}{'memory':>9}{'restarts':>9}"
                          f"{'crashes':>9}  sessions")  # fmt: skip
        for line in lines:
            self.stdout.write(_row(line, now))


def _row(line: status.Line, now: datetime) -> str:
    sessions = f"{line.connected} of {line.sessions} connected" if line.sessions is not None else ""
    retry = f"next trial in {(line.retry_at - now).total_seconds():.0f} s" if line.retry_at else ""
    ended = f"last ended: {line.last_exit}" if line.crashes and line.last_exit else ""
    return (
        f"{line.name:<13}{line.state:<10}{line.pid or '':>8}{_duration(line.uptime):>12}"
        f"{line.memory / 2**20:>6.0f} MB{line.restarts:>9}{line.crashes:>9}  "
        + ", ".join(filter(None, (sessions, retry, ended)))
    ).rstrip()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{days} d {hours} h" if days else f"{hours}:{rest // 60:02}:{rest % 60:02}"
