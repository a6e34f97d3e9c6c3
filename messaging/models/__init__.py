"""Messages and what tells of them, as rows."""

from messaging.models.bulk import Bulk, BulkRecipient, BulkState, RecipientState
from messaging.models.chat import Chat, ContactPause
from messaging.models.dispatch import DispatcherLease, SessionTold, StreamReader
from messaging.models.event import Event, EventCursor, EventKind
from messaging.models.media import Media, MediaState
from messaging.models.message import Direction, Message, Once, OnUncertain, Receipt
from messaging.models.request import Ask, HostRequest
from messaging.models.rules import AutoReply, AutoReplySent, Match, PacingRule
from messaging.models.webhook import Delivery, DeliveryState, WebhookEndpoint

__all__ = [
    "Ask", "AutoReply", "AutoReplySent", "Bulk", "BulkRecipient", "BulkState", "Chat", "ContactPause", "Delivery",
    "DeliveryState", "Direction", "DispatcherLease", "Event", "EventCursor", "EventKind", "HostRequest",
    "Match", "Media", "MediaState", "Message", "Once", "OnUncertain", "PacingRule", "Receipt", "RecipientState",
    "SessionTold", "StreamReader", "WebhookEndpoint",
]  # fmt: skip
