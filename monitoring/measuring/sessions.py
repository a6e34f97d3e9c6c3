"""Sessions that should be online and are not."""

from __future__ import annotations

from django.db.models import Count, Q

from accounts.models import Desired
from monitoring.measuring.moment import IDLE, Measured, Moment
from sessions_app.models import Session
from sessions_app.states import State


def offline(moment: Moment) -> Measured:
    """Return the share of paired sessions wanted online that are not connected under a living lease, in percent."""
    wanted = Session.objects.filter(account__desired=Desired.ONLINE).exclude(state__in=[State.UNPAIRED, State.PAIRING])
    connected = Q(state=State.CONNECTED, lease_expires_at__gt=moment.now)
    counts = wanted.aggregate(all=Count("pk"), connected=Count("pk", filter=connected))
    return {"": 100 * (counts["all"] - counts["connected"]) / counts["all"] if counts["all"] else IDLE}
