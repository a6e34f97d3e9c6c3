"""`manage.py recover`: bring the whole system back, or one session."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.management.commands.sessions import find
from sessions_app.management.output import OurCommand
from sessions_app.models import Session
from sessions_app.states import NEEDS_PAIRING
from sessions_app.whatsapp.client import WhatsAppError
from waserver import recovery
from waserver.damage import quarantine
from waserver.store_check import Verdict, check

_PLAN = lazy("""
This would now
  1. stop everything that runs here, gracefully, within 30 s;
  2. check database and device stores again, now that nobody writes;
  3. back up database, keys and secret key;
  4. set damaged device stores aside (never delete them) and hold their sessions;
  5. give back the leases of hosts that are gone, close commands nobody finished, remove stale pid files and sockets;
  6. start the server in the background, under supervision, and wait until the sessions are back.
No account has to be scanned again, but those whose keys are damaged or gone.
""")  # fmt: skip


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Recover the whole system on this machine, safely; or one session: its breaker and retry state are reset, its "
        "keys checked, and it is started. On a terminal it first shows what it would do, and asks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="?", choices=["session"], help=_("one session instead of the whole system"))
        parser.add_argument("id", nargs="?", default="", help=_("its id, its account's label or its number"))
        parser.add_argument("--dry-run", action="store_true", help=_("look, and say what would be done"))
        parser.add_argument("--yes", action="store_true", help=_("do not ask"))
        parser.add_argument("--wait", type=float, default=180, help=_("seconds to wait for the sessions"))
        parser.add_argument("--re-pair", action="store_true", help=_("one session: show a new code to scan"))

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "session":
            self._session(options)
            return
        if options["re_pair"]:
            raise CommandError(_("--re-pair is for one session: `manage.py recover session ID --re-pair`."))
        if not options["yes"] and (options["dry_run"] or sys.stdin.isatty()):
            with recovery.alone():
                recovery.look(recovery.Report(self.stdout.write))
            self.stdout.write(str(_PLAN))
            if options["dry_run"] or input(_("Do this now? [y/N]") + " ").strip().lower() != "y":
                self.stdout.write(_("Nothing was done."))
                return
        elif not options["yes"]:
            raise CommandError(
                _("This stops and restarts the server: say --yes, or --dry-run to see what it would do.")
            )
        report = recovery.Report(self.stdout.write)
        recovery.recover(report, timedelta(seconds=options["wait"]))
        if report.left:
            self.stdout.write(_("Left for a person:"))
        for sentence in report.left:
            self.stdout.write(f"  - {sentence}")

    def _session(self, options: dict[str, Any]) -> None:
        if not options["id"]:
            raise CommandError(_("Which session? `manage.py sessions list` shows all."))
        session = find(options["id"])
        if options["re_pair"]:
            call_command("sessions", "pair", str(session.pk), stdout=self.stdout)
            return
        if session.state in NEEDS_PAIRING or not session.store:
            text = _("%(session)s has no keys: pair it with `manage.py recover session %(id)d --re-pair`.")
            raise CommandError(text % {"session": session, "id": session.pk})
        self._check_keys(session)
        call_command("sessions", "start", str(session.pk), wait=min(options["wait"], 120), stdout=self.stdout)

    def _check_keys(self, session: Session) -> None:
        try:
            verdict, text = check([session.store_path])[session.store_path]
        except WhatsAppError as error:
            raise CommandError(str(error)) from None
        names = {"session": session, "id": session.pk, "problem": text}
        if verdict is Verdict.DAMAGED:
            if (lies := quarantine(session, text, recovery.BY)) is None:
                raise CommandError(_("The keys of %(session)s are damaged (%(problem)s) and in use: stop it first with "
                                     "`manage.py sessions stop %(id)d`, then run this again.") % names)  # fmt: skip
            raise CommandError(
                _("The keys of %(session)s are damaged (%(problem)s) and were set aside in %(place)s. Restore them "
                  "from a backup, or pair again: `manage.py recover session %(id)d --re-pair`.")
                % {**names, "place": lies}
            )  # fmt: skip
        if verdict is not Verdict.WHOLE:
            raise CommandError(
                _("The keys of %(session)s cannot be used (%(problem)s). Restore them from a backup, or pair again: "
                  "`manage.py recover session %(id)d --re-pair`.") % names
            )  # fmt: skip
