"""The daily report, to the channels that want it: queued once a day, delivered like an alert."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from monitoring.models import AlertChannel, AlertDelivery, Change
from monitoring.reporting.render import as_text
from monitoring.reporting.report import report

DAY = timedelta(days=1)
#: A server that was down at the time catches up within this.
LATEST = timedelta(hours=6)


def queue_reports(now: datetime) -> int:
    """Queue today's report for the channels whose time has come; return how many."""
    due = {channel: key for channel in AlertChannel.objects.filter(enabled=True, daily_report=True)
           if (key := _due(channel, now))}  # fmt: skip
    done = set(AlertDelivery.objects.filter(channel__in=due, key__in=due.values()).values_list("channel", "key"))
    channels = [channel for channel, key in due.items() if (channel.pk, key) not in done]
    if not channels:
        return 0
    with translation.override(settings.LANGUAGE_CODE):
        text, title = as_text(report(now - DAY, now)), _("waserver: report of the last 24 hours")
    link = f"{settings.SITE_URL}/admin/health/report/"
    rows = [channel.queue(due[channel], Change.REPORT, title, f"{text}\n{link}", urgent=True) for channel in channels]
    AlertDelivery.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _due(channel: AlertChannel, now: datetime) -> str:
    """Return the key of the report due on the channel's clock, or ""."""
    local = now.astimezone(channel.zone)
    for day in (local.date(), local.date() - DAY):
        at = datetime.combine(day, channel.report_at, channel.zone)
        if timedelta(0) <= now - at < LATEST:
            return f"report:{day}"
    return ""
