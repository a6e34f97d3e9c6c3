"""live_back: every 30 s, decide which sessions somebody should look at. Hosts act; this never touches a socket.

A late or doubled run is harmless: it marks rows, and a host claims each of them once.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from sessions_app import changes
from sessions_app.fleet_watch import watch
from sessions_app.models import Session, SessionEvent
from sessions_app.models.event import MARKED
from sessions_app.states import LIVE, State

#: More announcements than this at once tell a watching page no more than its own timer.
_ANNOUNCED = 100


def live_back(now: datetime) -> dict[str, int]:
    """Expire dead leases and mark due what should be online, is not, and may be tried; return the counts.

    The number of queries does not depend on the number of accounts. A session that is connected, connecting or
    pairing under a living lease is never touched, nor one that waits for its time or for a person.
    """
    expired = Session.objects.expire_leases(now, "live_back")
    forgotten = Session.objects.wanted_online().filter(host=None)
    resting = Session.objects.wanted_online().exclude(state__in=[*LIVE, State.PAIRING])
    may_try = Q(retry_at=None) | Q(retry_at__lte=now)
    unchecked = Q(checked_at=None) | Q(checked_at__lte=now - settings.LIVE_BACK_THROTTLE)
    with transaction.atomic():
        # Locked, so that of two ticks at once one marks and writes it down.
        chosen = (forgotten | resting).filter(may_try, unchecked, due_at=None).unlocked()
        due = list(chosen.only("pk", "state", "lease_epoch", "host_id"))
        for start in range(0, len(due), 5000):  # SQLite bounds the parameters of one statement
            Session.objects.filter(pk__in=[row.pk for row in due[start : start + 5000]]).update(
                due_at=now, checked_at=now, version=F("version") + 1
            )
        # What an owner is reminded of is no news; what nobody owned is taken up again, and that is written down.
        SessionEvent.objects.bulk_create(
            row.own_event(MARKED, "live_back", "nobody_owned_it", now) for row in due if row.host_id is None
        )
    changes.announce(*[row.pk for row in due[:_ANNOUNCED]])
    return {"expired": expired, "due": len(due), **watch(now)}
