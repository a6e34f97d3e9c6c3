"""What our commands have in common: a database that is not there is one sentence, and --json is JSON."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError, ProgrammingError
from django.utils.translation import gettext as _

#: The system checks a program that shows no page has: Django's others import every page.
SETTINGS = "settings"


class OurCommand(BaseCommand):
    """A command on our tables. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reached in time."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = str(self.help)  # argparse takes no lazy text
        return parser

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except (OperationalError, ProgrammingError) as error:
            if "no such table" in str(error) or "doesn't exist" in str(error):
                raise CommandError(_("The database is not set up: run `make run`, or `manage.py migrate`.")) from None
            raise CommandError(
                _("The database does not answer: %(error)s. Check DATABASE_URL.") % {"error": error}
            ) from None

    def print_json(self, value: Any) -> None:
        """Print it as JSON."""
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder, indent=2, ensure_ascii=False))
