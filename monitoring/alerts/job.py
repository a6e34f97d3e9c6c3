"""The regular job: has what is due delivered, by a process that ends; queues daily reports; forgets what is old."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring.models import AlertDelivery
from monitoring.reporting.daily import queue_reports
from monitoring.spawning import spawn

RETENTION = timedelta(days=30)
_BATCH = 1000


def alerts(now: datetime) -> dict[str, int]:
    """Return how many are due, were taken back from dead processes, are reports, were forgotten; and if one started."""
    reports = queue_reports(now)
    lost = AlertDelivery.objects.take_back(now)
    due = AlertDelivery.objects.due(now).count()
    started = bool(due) and spawn("deliver_alerts")
    old = list(AlertDelivery.objects.filter(created_at__lt=now - RETENTION).values_list("pk", flat=True)[:_BATCH])
    if old:
        AlertDelivery.objects.filter(pk__in=old).delete()
    return {"due": due, "taken_back": lost, "started": int(started), "forgotten": len(old), "reports": reports}
