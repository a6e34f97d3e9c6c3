"""The event stream by polling: what a webhook or the WebSocket tells, read by a cursor."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from accounts.models import ApiKey
from messaging.api.auth import READ, account_of, key_of
from messaging.api.paging import Id, Limit
from messaging.api.problems import documented
from messaging.models import Event, EventKind
from messaging.signed_urls import with_url

router = Router(tags=["events"])

Position = Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the answer before; 0 begins at the oldest.")]


class EventOut(Schema):
    """One thing that happened. `data` is a message, or what is said of a session."""

    id: str = Field(examples=["evt_1"])
    cursor: int = Field(description="Ask for what comes after this one.")
    type: str = Field(examples=["message.received"])
    timestamp: datetime
    account_id: int | None = None
    data: dict[str, Any]


class EventsOut(Schema):
    """In the order they are told; `next` is the cursor to go on with, also when there is nothing new."""

    items: list[EventOut]
    next: int


@router.get("/events", auth=READ, response={200: EventsOut, **documented()}, summary="Read events")
def read_events(request: HttpRequest, cursor: Position = 0, limit: Limit = 50,
                account_id: Annotated[Id | None, Query()] = None) -> Any:  # fmt: skip
    """Nothing is skipped and nothing comes twice. The same as a stream: WebSocket `/ws/events/?cursor=…`."""
    if account_id is not None:
        account_of(request, account_id)
    events, position = read_after(key_of(request), cursor, limit, account_id)
    return {"items": events, "next": position}


def read_after(
    key: ApiKey, position: int, limit: int, account_id: int | None = None
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Return the next events this key may see, and the position to go on from.

    The position passes over what the key may not see, so that a key for a quiet account does not read all again.
    """
    Event.objects.publish()
    rows = list(Event.objects.after(position).exclude(kind=EventKind.TEST)[:limit])
    mine = set(key.reachable().values_list("pk", flat=True)) if key.limited else None
    seen = [row for row in rows
            if (mine is None or row.account_id in mine) and account_id in (None, row.account_id)]  # fmt: skip
    return [event_body(row) for row in seen], (rows[-1].position or position) if rows else position


def event_body(event: Event) -> dict[str, Any]:
    """Return an event as JSON."""
    return {"id": f"evt_{event.pk}", "cursor": event.position, "type": event.kind, "timestamp": event.at,
            "account_id": event.account_id, "data": with_url(event.body)}  # fmt: skip
