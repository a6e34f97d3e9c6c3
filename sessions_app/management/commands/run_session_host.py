"""`manage.py run_session_host`: own WhatsApp sockets until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts import garbage
from sessions_app.host.host import SessionHost
from sessions_app.management.output import SETTINGS, OurCommand
from sessions_app.models import Host
from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.library import find


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Run a session host: it connects the accounts it holds a lease on, until SIGTERM (ended within 10 s)."
    )
    requires_system_checks = [SETTINGS]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="host-1", help=_("the same over restarts, different for every host"))
        parser.add_argument("--capacity", type=int, default=settings.HOST_CAPACITY, help=_("sessions at most"))
        parser.add_argument("--region", default=settings.HOST_REGION, help=_("where it runs: a label, for people"))

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.WHATSAPP_CLIENT.endswith(".NeonizeWhatsApp"):
            try:
                find(settings.WHATSAPP_LIBRARY)
            except WhatsAppError as error:
                raise CommandError(str(error)) from None
        os.umask(0o077)  # device keys are for this user alone
        os.nice(settings.HOST_NICE)
        name: str = options["name"]
        _keep_prints_apart(name)
        longest = Host._meta.get_field("region").max_length or 0
        if len(options["region"]) > longest:
            text = _("A region has at most %(longest)d signs: shorten “%(region)s”.")
            raise CommandError(text % {"longest": longest, "region": options["region"]})
        host = SessionHost(name, options["capacity"], options["region"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: host.stop())
        garbage.settle()
        host.run()
        logging.shutdown()
        # Threads may still hang inside the library, and nothing of ours is left to do.
        os._exit(host.exit_code)


def _keep_prints_apart(name: str) -> None:
    """Give the Go library's prints, which go to file descriptor 1, a log of their own; ours go to stderr.

    supervisord keeps the two apart by itself, and rotates both.
    """
    if "SUPERVISOR_PROCESS_NAME" in os.environ:
        return
    path = settings.LOG_DIR / f"{name}-library.log"
    with path.open("ab") as log:
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
