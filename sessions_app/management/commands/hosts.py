"""`manage.py hosts list|restart|drain|undrain`."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from sessions_app.management.output import OurCommand
from sessions_app.models import Host

_ACTOR = "manage.py"
#: Exit code: not reached in time.
LATE = 3


class Command(OurCommand):
    help = (
        "Look at session hosts and ask things of them. A host that restarts or drains gives its sessions to hosts with "
        "room. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reached within --wait seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        listing = commands.add_parser("list", help="all hosts")
        listing.add_argument("--region", default=None, help="only those with this label")
        for what, text in (("restart", "end it gracefully; its supervisor starts it again"),
                           ("drain", "take no sessions, give away those it has"),
                           ("undrain", "take part again")):  # fmt: skip
            command = commands.add_parser(what, help=text)
            command.add_argument("name")
            command.add_argument("--reason", default="", help="why, for the record")
            command.add_argument("--wait", type=float, default=0, help="seconds to wait until it is done (0: do not)")
        for command in commands.choices.values():
            command.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "list":
            chosen = {"region": options["region"]} if options["region"] is not None else {}
            rows = list(Host.objects.filter(**chosen))
        else:
            host = Host.objects.filter(name=options["name"]).first()
            if host is None:
                raise CommandError(f"There is no host “{options['name']}”: `manage.py hosts list` shows all.")
            self._ask(host, options)
            rows = [Host.objects.get(pk=host.pk)]
        shown = [_shown(row) for row in rows]
        if options["json"]:
            self.print_json(shown if options["what"] == "list" else shown[0])
        for one in () if options["json"] else shown:
            self.stdout.write(
                f"{one['name']:<16} {one['doing']:<10} {one['sessions']:>3} of {one['capacity']:<3} sessions  "
                f"{one['rss'] / 1e6:>5.0f} MB  {one['machine']} process {one['pid']}"
                + (f"  region {one['region']}" if one["region"] else "")
            )

    def _ask(self, host: Host, options: dict[str, Any]) -> None:
        what, reason, boot = options["what"], options["reason"], host.boot
        if what == "restart" and not host.request_restart(_ACTOR, reason):
            raise CommandError(f"{host} does not run, or restarts already: `manage.py hosts list` shows it.")
        if what in ("drain", "undrain"):
            getattr(host, what)(_ACTOR, reason)
        until = time.monotonic() + options["wait"]
        while options["wait"]:
            host.refresh_from_db()
            done = {"restart": host.boot != boot and host.is_live(timezone.now()), "drain": not host.owned.exists(),
                    "undrain": True}[what]  # fmt: skip
            if done:
                return
            if time.monotonic() > until:
                raise CommandError(f"Not reached within {options['wait']:.0f} s: {host} is {_doing(host)}.",
                                   returncode=LATE)  # fmt: skip
            time.sleep(0.2)


def _doing(host: Host) -> str:
    if not host.is_live(timezone.now()):
        return "ended" if host.ended_at else "silent"
    return "restarting" if host.restart_requested_at else "draining" if host.draining else "running"


def _shown(host: Host) -> dict[str, Any]:
    return {
        "name": host.name, "doing": _doing(host), "live": host.is_live(timezone.now()), "draining": host.draining,
        "restart_requested_at": host.restart_requested_at, "restart_requested_by": host.restart_requested_by,
        "restart_reason": host.restart_reason, "machine": host.machine, "region": host.region,
        "pid": host.pid,
        "sessions": host.owned.count(), "capacity": host.capacity, "rss": host.rss, "fds": host.fds,
        "version": host.version, "started_at": host.started_at, "heartbeat_at": host.heartbeat_at,
    }  # fmt: skip
