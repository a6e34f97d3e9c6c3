"""What waits: messages to be sent and webhook calls to be delivered."""

from __future__ import annotations

from django.db.models import Q

from messaging.models import Delivery, DeliveryState, Message
from messaging.states import MessageState
from monitoring.measuring.moment import Measured, Moment


def backlog(moment: Moment) -> Measured:
    """Return how many wait although their time has come."""
    return {"": float(sum(waiting(moment).values()))}


def waiting(moment: Moment) -> dict[str, int]:
    """Return what waits by kind."""
    due = Q(state=MessageState.QUEUED, next_at__lte=moment.now) | Q(state=MessageState.SENDING)
    return {
        "messages": Message.objects.filter(due).count(),
        "deliveries": Delivery.objects.filter(state=DeliveryState.PENDING, endpoint__disabled_at=None).count(),
    }
