"""States of a message and which may follow which: pure, as a table, proven complete by `tests/test_messages.py`."""

from __future__ import annotations

from enum import StrEnum


class MessageState(StrEnum):
    """What is known of a message."""

    QUEUED = "queued"  # stored, not yet handed to the library
    SENDING = "sending"  # handed to the library, which has not answered
    SENT = "sent"  # WhatsApp's server acknowledged it
    DELIVERED = "delivered"  # it reached a device of the receiver
    READ = "read"
    FAILED = "failed"  # certainly not sent
    UNCERTAIN = "uncertain"  # handed to the library, outcome unknown; never repeated by itself
    CANCELLED = "cancelled"  # taken back before it was handed over
    RECEIVED = "received"  # inbound


S = MessageState

#: State -> those it may change into. A receipt may arrive before the acknowledgement, and for an uncertain message.
FOLLOWING: dict[MessageState, frozenset[MessageState]] = {
    S.QUEUED: frozenset({S.SENDING, S.FAILED, S.CANCELLED}),
    S.SENDING: frozenset({S.QUEUED, S.SENT, S.DELIVERED, S.READ, S.FAILED, S.UNCERTAIN}),
    S.SENT: frozenset({S.DELIVERED, S.READ}),
    S.DELIVERED: frozenset({S.READ}),
    S.READ: frozenset(),
    S.FAILED: frozenset({S.QUEUED}),
    S.UNCERTAIN: frozenset({S.QUEUED, S.SENT, S.DELIVERED, S.READ, S.FAILED}),
    S.CANCELLED: frozenset({S.QUEUED}),
    S.RECEIVED: frozenset(),
}

#: Nothing more is done for a message in these unless a person or a receipt says so.
AT_REST = frozenset(S) - {S.QUEUED, S.SENDING}
#: It certainly reached WhatsApp.
ACKNOWLEDGED = frozenset({S.SENT, S.DELIVERED, S.READ})


def before(state: MessageState) -> list[MessageState]:
    """Return the states a message may be in to change into `state`."""
    return [source for source, targets in FOLLOWING.items() if state in targets]
