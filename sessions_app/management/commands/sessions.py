"""`manage.py sessions list|show|start|stop|restart|logout|pair`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import segno
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts import phone
from sessions_app.explanations import explain
from sessions_app.management.output import OurCommand
from sessions_app.models import Host, Session, SessionCommand
from sessions_app.states import NEEDS_PAIRING, State

_ACTOR = "manage.py"
#: Exit code: the state wished for was not reached in time.
LATE = 3
_WHAT = {
    "show": lazy("one session"), "start": lazy("connect it"), "stop": lazy("disconnect it, keep its keys"),
    "restart": lazy("stop and start it"), "logout": lazy("unlink it at WhatsApp"),
    "pair": lazy("show a QR code, or with --phone an 8-character code"),
}  # fmt: skip
_REST = frozenset({State.STOPPED, State.BANNED, State.OUTDATED}) | NEEDS_PAIRING


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Look at sessions and ask things of them; ID is a session's id, its account's label or its number. "
        "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reached within --wait seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        commands.add_parser("list", help=_("all sessions"))
        for what, text in _WHAT.items():
            command = commands.add_parser(what, help=str(text))
            command.add_argument("id")
            if what not in ("show",):
                command.add_argument("--wait", type=float, default=300 if what == "pair" else 30,
                                     help=_("seconds to wait for the outcome (0: do not wait)"))  # fmt: skip
            if what == "logout":
                command.add_argument("--yes", action="store_true", help=_("do not ask"))
            if what == "pair":
                command.add_argument("--phone", default="",
                                     help=_("pair with this number and a code instead of a QR"))  # fmt: skip
        for command in commands.choices.values():
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "list":
            rows = list(Session.objects.select_related("account", "host"))
            if options["json"]:
                self.print_json([shown(row) for row in rows])
            for row in () if options["json"] else rows:
                self.stdout.write(_line(row))
            return
        session = find(options["id"])
        if options["what"] != "show":
            getattr(self, f"_{options['what']}")(session, options)
            session.refresh_from_db()
        if options["json"]:
            self.print_json(shown(session))
        else:
            self.stdout.write(_line(session))

    def _start(self, session: Session, options: dict[str, Any]) -> None:
        if session.state in NEEDS_PAIRING:
            raise CommandError(_unpaired(session))
        command = session.request_start(_ACTOR)
        self._wait(session, options, lambda row: row.state == State.CONNECTED, command)

    def _stop(self, session: Session, options: dict[str, Any]) -> None:
        session.request_stop(_ACTOR)
        self._wait(session, options, lambda row: row.state in _REST and row.host_id is None)

    def _restart(self, session: Session, options: dict[str, Any]) -> None:
        if session.state in NEEDS_PAIRING:
            raise CommandError(_unpaired(session))
        before, command = timezone.now(), session.request_restart(_ACTOR)
        self._wait(session, options, lambda row: row.state == State.CONNECTED and bool(
            row.connected_at and row.connected_at > before), command)  # fmt: skip

    def _logout(self, session: Session, options: dict[str, Any]) -> None:
        if not options["yes"]:
            if not sys.stdin.isatty():
                raise CommandError(_("Log out for good? The phone then has to be paired again. Say so with --yes."))
            question = _("Log %(session)s out at WhatsApp? It has to be paired again afterwards. [y/N]")
            if input(question % {"session": session} + " ").lower() != "y":
                raise CommandError(_("Nothing was done."))
        command = session.request_logout(_ACTOR)
        self._wait(session, options, lambda row: row.state == State.LOGGED_OUT, command)

    def _pair(self, session: Session, options: dict[str, Any]) -> None:
        try:
            digits = phone.normalise(options["phone"]) if options["phone"] else ""
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        count = session.code_count
        command = session.request_pairing(_ACTOR, digits)
        began = timezone.now()

        def over(row: Session) -> bool:
            nonlocal count
            if row.code_count > count and not options["json"]:
                count = row.code_count
                self._draw(row)
            if row.state_changed_at > began and row.state in NEEDS_PAIRING:
                raise CommandError(" ".join(filter(None, _words(row))))
            return row.state == State.CONNECTED and row.paired_at is not None and row.paired_at > began

        try:
            self._wait(session, options, over, command)
        except KeyboardInterrupt:
            session.cancel_pairing(_ACTOR)
            raise CommandError(_("The pairing was cancelled.")) from None

    def _draw(self, row: Session) -> None:
        if row.qr_text:
            segno.make_qr(row.qr_text, error="l").terminal(compact=True)
            self.stdout.write(_("WhatsApp › Linked devices › Link a device, and scan this. Ctrl-C cancels."))
        elif row.pair_code:
            text = _("WhatsApp › Linked devices › Link with phone number: %(code)s")
            self.stdout.write(text % {"code": row.pair_code})

    def _wait(self, session: Session, options: dict[str, Any], done: Callable[[Session], bool],
              command: SessionCommand | None = None) -> None:  # fmt: skip
        """Wait until `done`, a refusal, or --wait seconds."""
        if not options["wait"]:
            return
        if not Host.objects.live(timezone.now()).exists():
            raise CommandError(_("Noted, but no session host is running: start the server with `make run`."))
        until = time.monotonic() + options["wait"]
        while True:
            row = Session.objects.select_related("account", "host").get(pk=session.pk)
            if done(row):
                return
            if command is not None:
                command.refresh_from_db()
                if command.error:
                    raise CommandError(command.error)
            if time.monotonic() > until:
                late = _("Not reached within %(seconds).0f s: %(line)s")
                raise CommandError(late % {"seconds": options["wait"], "line": _line(row)}, returncode=LATE)
            time.sleep(0.2)


def find(text: str) -> Session:
    """Return the session with this id, label or number. Raises CommandError with one sentence."""
    digits = "".join(filter(str.isdigit, text))
    wanted = Q(account__label=text) | (Q(account__phone=digits) if len(digits) > 6 else Q(pk__in=[]))
    if text.isdigit() and len(text) < 10:
        wanted |= Q(pk=int(text))
    found = Session.objects.select_related("account", "host").filter(wanted).first()
    if found is None:
        raise CommandError(_("There is no session “%(text)s”: `manage.py sessions list` shows all.") % {"text": text})
    return found


def shown(row: Session) -> dict[str, Any]:
    """Return a session for --json. The QR text is in it: whoever may run commands may pair."""
    explanation = explain(row, timezone.now())
    return {
        "id": row.pk, "account": row.account.label, "phone": row.account.phone, "desired": row.account.desired,
        "state": row.state, "reason": row.reason, "code": row.code, "sentence": explanation.sentence,
        "what_to_do": explanation.what_to_do, "retry_at": row.retry_at, "qr": row.qr_text, "pair_code": row.pair_code,
        "host": row.host.name if row.host else None, "epoch": row.lease_epoch, "connected_at": row.connected_at,
        "push_name": row.push_name, "platform": row.platform, "attempts": row.attempts,
    }  # fmt: skip


def _unpaired(session: Session) -> str:
    return _("%(session)s is not paired: run `manage.py sessions pair %(id)d`.") % {
        "session": session, "id": session.pk,
    }  # fmt: skip


def _words(row: Session) -> tuple[str, str]:
    explanation = explain(row, timezone.now())
    return explanation.sentence, explanation.what_to_do


def _line(row: Session) -> str:
    sentence, todo = _words(row)
    return f"{row.pk:>5}  {row.account.label:<24} {row.state:<13} {sentence} {todo}".rstrip()
