"""`manage.py deliver_alerts`: send the alerts that are due, then end. Started by the cluster; harmless by hand."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring import apprise_sender
from monitoring.alerts.delivery import deliver
from sessions_app.management.output import OurCommand


class Command(OurCommand):
    help = lazy("Send the alerts that are due, then end. The cluster starts it by itself.")  # type: ignore[assignment]
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--delivery", type=int, metavar="ID", help=_("only this one"))

    def handle(self, *args: Any, **options: Any) -> None:
        parent = os.getppid()
        # Whoever started it has ended: the server stops, and this too, between two messages.
        counts = deliver(apprise_sender.send, lambda: os.getppid() == parent, only=options["delivery"])
        if any(counts.values()):
            self.stdout.write(_("%(sent)d delivered, %(missed)d not delivered.") % counts)
