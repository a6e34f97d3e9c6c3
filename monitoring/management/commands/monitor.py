"""`manage.py monitor` shows how the server does, live; `manage.py monitor report` says how it did."""

from __future__ import annotations

import os
import re
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.reporting.render import FORMATS
from monitoring.reporting.report import report
from sessions_app.management.output import OurCommand

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def span(text: str) -> timedelta:
    """Return a duration written like 90m, 24h or 7d. Raises CommandError with a sentence."""
    found = re.fullmatch(r"(\d{1,6})([mhd])", text.strip().lower())
    wanted = int(found[1]) * _UNITS[found[2]] if found else timedelta(0)
    if not wanted:
        raise CommandError(
            _("--since “%(text)s” is not a stretch of time: write it like 90m, 24h or 7d.") % {"text": text}
        )
    if wanted > settings.EVENT_RETENTION:
        far = _("--since %(text)s goes further back than events are kept (%(days)d days, EVENT_RETENTION_DAYS): "
                "ask for less.")  # fmt: skip
        raise CommandError(far % {"text": text, "days": settings.EVENT_RETENTION.days})
    return wanted


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Show how the server does, live (Ctrl-C ends it), or report how it did. Exit codes: 0 done, 1 refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help=_("print one picture and end"))
        parser.add_argument("--interval", type=float, default=2.0, help=_("seconds between two pictures (default 2)"))
        commands = parser.add_subparsers(dest="what")
        found = commands.add_parser(
            "report", help=_("how it did: uptime, reconnects, errors, times, memory, incidents")
        )
        found.add_argument("--since", default="24h", help=_("how far back, like 90m, 24h or 7d (default 24h)"))
        found.add_argument("--format", default="text", choices=sorted(FORMATS))
        found.add_argument("--output", metavar="FILE", help=_("write it there instead of printing it"))

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "report":
            self._report(options)
        else:
            self._watch(options)

    def _report(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        text = FORMATS[options["format"]](report(now - span(options["since"]), now))
        if not options["output"]:
            self.stdout.write(text, ending="")
            return
        path = Path(options["output"])
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            words = _("%(path)s cannot be written (%(error)s): choose another --output.")
            raise CommandError(words % {"path": path, "error": error.strerror}) from None

    def _watch(self, options: dict[str, Any]) -> None:
        from rich.console import Console
        from rich.live import Live

        from monitoring.terminal import picture

        if not 0.2 <= options["interval"] <= 3600:
            raise CommandError(_("--interval must lie between 0.2 and 3600 seconds."))
        console = Console()
        if options["once"]:
            console.print(picture(timezone.now(), console.size.height))
            return
        if not console.is_terminal:
            raise CommandError(_("The live view needs a terminal. For a script use `manage.py monitor --once`."))
        ended = threading.Event()
        # An exception would be lost within a function that the database calls.
        signal.signal(signal.SIGINT, lambda *_: ended.set())
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not ended.is_set() and os.getppid() != 1:  # its terminal is gone
                live.update(picture(timezone.now(), console.size.height), refresh=True)
                connection.close()  # an idle view holds no connection
                ended.wait(options["interval"])
