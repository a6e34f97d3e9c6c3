"""Settings that are wrong, found when a command starts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.translation import gettext as _

from sessions_app.management.output import SETTINGS
from waserver.maintenance import window


@register(SETTINGS)
def maintenance_window(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Say what is wrong with MAINTENANCE_WINDOW."""
    try:
        window.parse(settings.MAINTENANCE_WINDOW)
    except ValueError as error:
        return [Error(str(error), id="waserver.E001")]
    return []


@register(SETTINGS)
def host_nice(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Say what is wrong with HOST_NICE: less than nothing only root may ask for."""
    if 0 <= settings.HOST_NICE <= 19:
        return []
    wrong = _("HOST_NICE must be between 0 and 19, and is %(nice)d.") % {"nice": settings.HOST_NICE}
    return [Error(wrong, id="waserver.E002")]
