"""`manage.py create_api_key NAME`: prints the new key once, alone on stdout."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import OperationalError, ProgrammingError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts.management.commands.accounts import find
from accounts.management.output import OurCommand
from accounts.models import ApiKey, Scope


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Make an API key and print it, alone on stdout; it is not stored and cannot be shown again. "
        "Exit codes: 0 done, 1 refused, 2 wrong usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help=_("what it is for, e.g. “web shop”"))
        parser.add_argument("--scopes", default="read,send", help=_("of read, send, manage, with commas (read,send)"))
        parser.add_argument("--accounts", default="", help=_("labels or ids, with commas (default: every account)"))
        parser.add_argument("--expires", default="", help=_("90d, or a date as 2030-12-31 (default: never)"))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
            accounts = [find(one.strip()) for one in options["accounts"].split(",") if one.strip()]
            _key, secret = ApiKey.make(options["name"], scopes, accounts, expires_at=_expiry(options["expires"]))
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except (OperationalError, ProgrammingError):
            raise CommandError(_("The database is not set up: run `make run`, or `manage.py migrate`.")) from None
        self.stdout.write(secret)
        allowed = ", ".join(map(str, accounts)) or _("every account")
        granted = ", ".join(sorted(Scope(scope) for scope in scopes))
        text = _("Scopes %(scopes)s; %(accounts)s. Keep it: it is not shown again.")
        self.stderr.write(text % {"scopes": granted, "accounts": allowed})


def _expiry(text: str) -> datetime | None:
    if not text:
        return None
    now = timezone.now()
    if days := re.fullmatch(r"(\d{1,4})d", text):
        at = now + timedelta(days=int(days[1]))
    else:
        try:
            at = timezone.make_aware(datetime.strptime(text, "%Y-%m-%d"))  # noqa: DTZ007 - in the server's time zone
        except ValueError:
            raise CommandError(
                _("“%(text)s” is no time: write 90d, or a date as 2030-12-31.") % {"text": text}
            ) from None
    if at <= now:
        raise CommandError(_("The key would have expired already."))
    return at
