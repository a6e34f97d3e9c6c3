"""`manage.py run_dispatcher`: webhooks, bulk sends, files by address, automatic replies; until SIGTERM."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.utils.translation import gettext_lazy as lazy

from accounts import garbage
from messaging.dispatcher import Dispatcher
from sessions_app.management.output import SETTINGS, OurCommand


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Run the dispatcher: delivers webhooks, feeds bulk sends, fetches files, answers keywords, until SIGTERM."
    )
    requires_system_checks = [SETTINGS]

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        dispatcher = Dispatcher()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stop())
        garbage.settle()
        dispatcher.run()
