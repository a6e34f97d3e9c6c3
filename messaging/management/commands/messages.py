"""`manage.py messages send|list|retry`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts.management.commands.accounts import find
from accounts.models import Account
from messaging.accept import accept, fitting
from messaging.errors import Refused
from messaging.kinds import MEDIA, Kind
from messaging.models import Message
from messaging.rendering import message_body
from messaging.sniff import ENOUGH
from messaging.states import AT_REST, MessageState
from sessions_app.management.output import OurCommand

_ACTOR = "manage.py"
LATE = 3


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Send, list and retry messages. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, "
        "3 the outcome did not come within --wait seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        send = commands.add_parser("send", help=_("send a text, or a file with --file"))
        send.add_argument("account", help=_("label or id of the account that sends"))
        send.add_argument("to", help=_("a phone number, or the address of a group (…@g.us)"))
        send.add_argument("text", nargs="?", default="", help=_("the text, or the caption of the file"))
        send.add_argument("--file", default="", help=_("a file to send as a document, or as --kind says"))
        send.add_argument("--kind", default="document", choices=sorted(MEDIA))
        send.add_argument("--wait", type=float, default=0,
                          help=_("seconds to wait for the outcome (0: do not wait)"))  # fmt: skip
        listing = commands.add_parser("list", help=_("the newest messages first"))
        listing.add_argument("--account", default="", help=_("label or id"))
        listing.add_argument("--state", default="", choices=["", *MessageState], help=_("only those in this state"))
        listing.add_argument("--limit", type=int, default=50)
        retry = commands.add_parser("retry", help=_("queue failed or uncertain messages again"))
        retry.add_argument("ids", nargs="*", type=int, metavar="ID")
        retry.add_argument("--failed", action="store_true", help=_("every failed message of --account"))
        retry.add_argument("--account", default="")
        retry.add_argument("--yes", action="store_true", help=_("uncertain ones too: they may then arrive twice"))
        for command in (send, listing, retry):
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['what']}")(options)

    def _send(self, options: dict[str, Any]) -> None:
        account = find(options["account"])
        body: dict[str, Any] = {"to": options["to"], "kind": "text", "text": options["text"], "mentions": [],
                                "preview": False}  # fmt: skip
        try:
            if options["file"]:
                message = self._send_file(account, body, options)
            elif not options["text"].strip():
                raise CommandError(_("There is nothing to send: give a text, or --file."))
            else:
                message = accept(account, body, by=_ACTOR)
        except Refused as refused:
            raise CommandError(refused.sentence) from None
        self._wait(message, options)
        self._show([message], options)
        if message.state == MessageState.FAILED:
            raise CommandError(message.error)

    def _send_file(self, account: Account, body: dict[str, Any], options: dict[str, Any]) -> Message:
        import base64

        file = Path(options["file"])
        try:
            data = file.read_bytes()
        except OSError as error:
            text = _("%(file)s cannot be read: %(error)s.")
            raise CommandError(text % {"file": file, "error": error.strerror}) from None
        kind = Kind(options["kind"])
        fitting(kind, data[:ENOUGH], "")
        del body["text"], body["mentions"], body["preview"]
        body |= {"kind": kind, "media": {"base64": base64.b64encode(data).decode(), "filename": file.name}}
        if kind in (Kind.IMAGE, Kind.VIDEO, Kind.DOCUMENT):
            body["caption"] = options["text"]
        return accept(account, body, by=_ACTOR)

    def _wait(self, message: Message, options: dict[str, Any]) -> None:
        until = time.monotonic() + options["wait"]
        while options["wait"] and MessageState(message.state) not in AT_REST:
            if time.monotonic() > until:
                late = _("Message %(id)d is still %(state)s.")
                raise CommandError(late % {"id": message.pk, "state": message.state}, returncode=LATE)
            time.sleep(0.2)
            message.refresh_from_db()

    def _list(self, options: dict[str, Any]) -> None:
        rows = Message.objects.select_related("chat", "media", "account")
        if options["account"]:
            rows = rows.filter(account=find(options["account"]))
        if options["state"]:
            rows = rows.filter(state=options["state"])
        self._show(list(rows[: max(1, options["limit"])]), options)

    def _retry(self, options: dict[str, Any]) -> None:
        rows = Message.objects.select_related("chat", "media", "account", "target")
        if options["failed"]:
            rows = rows.filter(state=MessageState.FAILED)
            rows = rows.filter(account=find(options["account"])) if options["account"] else rows
        elif options["ids"]:
            rows = rows.filter(pk__in=options["ids"])
        else:
            raise CommandError(_("Say which: ids, or --failed."))
        chosen = list(rows.order_by("pk"))
        if not options["yes"] and any(message.state == MessageState.UNCERTAIN for message in chosen):
            raise CommandError(_("An uncertain message may arrive twice when it is sent again. Say so with --yes."))
        queued = [message for message in chosen if message.resend(_ACTOR)]
        self._show(queued, options)
        if len(queued) < max(len(options["ids"]), 1) and not options["failed"]:
            text = _("%(count)d queued again; the others are not failed, uncertain or cancelled.")
            raise CommandError(text % {"count": len(queued)})

    def _show(self, rows: list[Message], options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json([message_body(row) for row in rows])
            return
        for row in rows:
            arrow = "→" if row.is_out else "←"
            words = row.text.replace("\n", " ")[:40]
            head = f"{row.pk:>8}  {row.account.label:<20} {arrow} {row.chat!s:<24} {row.state:<10} {row.kind:<9}"
            self.stdout.write(f"{head} {words} {row.error}".rstrip())
