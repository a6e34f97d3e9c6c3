"""`manage.py hosts list|restart|drain|undrain`."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.management.output import OurCommand
from sessions_app.models import Host

_ACTOR = "manage.py"
#: Exit code: not reached in time.
LATE = 3
_WORDS = {
    "ended": lazy("ended"), "silent": lazy("silent"), "restarting": lazy("restarting"), "draining": lazy("draining"),
    "running": lazy("running"),
}  # fmt: skip


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Look at session hosts and ask things of them. A host that restarts or drains gives its sessions to hosts with "
        "room. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reached within --wait seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        listing = commands.add_parser("list", help=_("all hosts"))
        listing.add_argument("--region", default=None, help=_("only those with this label"))
        for what, text in (("restart", _("end it gracefully; its supervisor starts it again")),
                           ("drain", _("take no sessions, give away those it has")),
                           ("undrain", _("take part again"))):  # fmt: skip
            command = commands.add_parser(what, help=text)
            command.add_argument("name")
            command.add_argument("--reason", default="", help=_("why, for the record"))
            command.add_argument("--wait", type=float, default=0,
                                 help=_("seconds to wait until it is done (0: do not)"))  # fmt: skip
        for command in commands.choices.values():
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "list":
            chosen = {"region": options["region"]} if options["region"] is not None else {}
            rows = list(Host.objects.filter(**chosen))
        else:
            host = Host.objects.filter(name=options["name"]).first()
            if host is None:
                text = _("There is no host “%(name)s”: `manage.py hosts list` shows all.")
                raise CommandError(text % {"name": options["name"]})
            self._ask(host, options)
            rows = [Host.objects.get(pk=host.pk)]
        shown = [_shown(row) for row in rows]
        if options["json"]:
            self.print_json(shown if options["what"] == "list" else shown[0])
        names, words = max((len(one["name"]) for one in shown), default=0), max(map(len, map(str, _WORDS.values())))
        for one in () if options["json"] else shown:
            sessions = _("%(sessions)3d of %(capacity)s sessions") % {
                "sessions": one["sessions"], "capacity": f"{one['capacity']:<3}",
            }  # fmt: skip
            self.stdout.write(
                f"{one['name']:<{names}}  {_WORDS[one['doing']]!s:<{words}}  {sessions}  "
                f"{one['rss'] / 1e6:>5.0f} MB  {one['machine']} " + _("process %(pid)d") % {"pid": one["pid"]}
                + ("  " + _("region %(region)s") % {"region": one["region"]} if one["region"] else "")
            )  # fmt: skip

    def _ask(self, host: Host, options: dict[str, Any]) -> None:
        what, reason, boot = options["what"], options["reason"], host.boot
        if what == "restart" and not host.request_restart(_ACTOR, reason):
            text = _("%(host)s does not run, or restarts already: `manage.py hosts list` shows it.")
            raise CommandError(text % {"host": host})
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
                late = _("Not reached within %(seconds).0f s: %(host)s is %(doing)s.") % {
                    "seconds": options["wait"], "host": host, "doing": _WORDS[_doing(host)],
                }  # fmt: skip
                raise CommandError(late, returncode=LATE)
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
