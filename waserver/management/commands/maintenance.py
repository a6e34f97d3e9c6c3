"""`manage.py maintenance daily|weekly|monthly`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.management.output import OurCommand
from waserver.maintenance import ROUTINES, run


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Do what has to be done regularly, and say what a person has to look at. Exit codes: 0 fine, 1 troubles."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        routines = parser.add_subparsers(dest="routine", required=True)
        for name, tasks in ROUTINES.items():
            routine = routines.add_parser(name, help="; ".join(str(task.title) for task in tasks))
            routine.add_argument("--dry-run", action="store_true", help=_("say what would be done, change nothing"))
            routine.add_argument("--without", action="append", default=[], choices=[task.name for task in tasks])
            routine.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        troubles, printed = 0, {}
        done = run(options["routine"], timezone.now(), options["dry_run"], frozenset(options["without"]))
        for task, outcome in done:
            troubles += len(outcome.troubles)
            if options["json"]:
                printed[task.name] = {"lines": outcome.lines, "troubles": outcome.troubles, **outcome.counts}
                continue
            self.stdout.write(self.style.MIGRATE_HEADING(str(task.title)))
            for line in outcome.lines:
                self.stdout.write(f"  {line}")
            for trouble in outcome.troubles:
                self.stdout.write(self.style.ERROR(f"  ! {trouble}"))
        if options["json"]:
            self.print_json(printed)
        if troubles:
            raise SystemExit(1)
