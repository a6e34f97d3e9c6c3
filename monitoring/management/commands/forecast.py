"""`manage.py forecast`: learn from the past, write what to expect, and end. Started by the cluster every hour."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.translation import gettext_lazy as lazy

from monitoring.forecasting.learner import Finding
from monitoring.forecasting.run import forecast
from monitoring.forecasting.words import finding
from sessions_app.management.output import OurCommand


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Forecast which sessions may lose their connection within the hour. The cluster starts it by itself."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        with contextlib.suppress(OSError):
            os.nice(10)  # whatever else runs on this machine comes first
        run = forecast(timezone.now())
        if run.finding == Finding.NO_LIBRARY:
            raise CommandError(finding(run))
        self.stdout.write(finding(run))
