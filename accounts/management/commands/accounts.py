"""`manage.py accounts add|list`."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts import proxy
from accounts.management.output import OurCommand
from accounts.models import Account


class Command(OurCommand):
    help = lazy("Add an account, or list them. Exit codes: 0 done, 1 refused, 2 wrong usage.")  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        add = commands.add_parser("add", help=_("add an account; pair it with `manage.py sessions pair LABEL`"))
        add.add_argument("label")
        add.add_argument("--phone", default="", help=_("accept only the phone with this number"))
        add.add_argument("--proxy", default="", help=_("http://user:password@host:port or socks5://host:port"))
        add.add_argument("--important", action="store_true", help=_("connect it first when many start"))
        listing = commands.add_parser("list", help=_("list the accounts"))
        for command in (add, listing):
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        rows = [self._add(options)] if options["what"] == "add" else list(Account.objects.all())
        if options["json"]:
            shown = [_shown(row) for row in rows]
            self.print_json(shown[0] if options["what"] == "add" else shown)
            return
        for row in rows:
            self.stdout.write(f"{row.pk:>5}  {row.label:<30} {row.phone_display or '–':<20} {row.desired}")

    def _add(self, options: dict[str, Any]) -> Account:
        account = Account(
            label=options["label"], phone=options["phone"] or None, proxy=options["proxy"] or None,
            important=options["important"],
        )  # fmt: skip
        try:
            account.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        account.save()
        return account


def find(text: str) -> Account:
    """Return the account with this label or id. Raises CommandError."""
    found = Account.objects.filter(label=text).first()
    if found is None and text.isdigit() and len(text) < 10:
        found = Account.objects.filter(pk=int(text)).first()
    if found is None:
        raise CommandError(_("There is no account “%(text)s”: `manage.py accounts list` shows all.") % {"text": text})
    return found


def _shown(account: Account) -> dict[str, Any]:
    return {
        "id": account.pk, "label": account.label, "phone": account.phone, "desired": account.desired,
        "proxy": proxy.display(account.proxy or ""), "important": account.important,
    }  # fmt: skip
