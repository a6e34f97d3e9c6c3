"""Messages and chats."""

from __future__ import annotations

import json
import threading
import time
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Body, Header, Query, Router, Status

from accounts.models import ApiKey
from messaging.accept import accept_once, check_account
from messaging.addresses import jid_of
from messaging.api.auth import READ, SEND, account_of, key_of, reachable_accounts, sender_of
from messaging.api.paging import Cursor, Id, Limit, Page, page
from messaging.api.problems import documented
from messaging.api.schemas import ChatOut, MessageIn, MessageOut, State, Time
from messaging.errors import Refused
from messaging.models import Chat, Message
from messaging.rendering import chat_body, message_body
from messaging.signed_urls import with_url
from messaging.states import AT_REST, MessageState

router = Router(tags=["messages"])

#: Requests that may wait at once in this process; one more is answered at once.
_waiters = threading.BoundedSemaphore(20)
_LOOK_EVERY = 0.15  # seconds


@router.post("/messages", auth=SEND, response={200: MessageOut, 202: MessageOut, **documented(409, 415)},
             summary="Send a message")  # fmt: skip
def send(
    request: HttpRequest, payload: Annotated[MessageIn, Body()],
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=255, description=(
        "The same key and body within 24 hours send once; with another body it is refused with 409."))] = "",
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for the outcome.")] = 0,
) -> Any:  # fmt: skip
    """202 once the message is stored: from then on it is not lost. With `wait` 200 when its outcome came in time.

    Its state: `queued`, `sending`, then `sent`, `delivered`, `read`; or `failed` (certainly not sent), `uncertain`
    (WhatsApp's answer was lost), `cancelled`. Messages of one chat leave in the order they were accepted.
    """
    body = payload.model_dump() | {"to": jid_of(payload.to)}
    account, chat = sender_of(request, payload.account_id, body["to"])
    message, _new = accept_once(account, body, request.body, idempotency_key, key_of(request), chat=chat)
    status = 200 if wait and _wait(message, wait) else 202
    # Not through the schema once more, which costs as much as a query: tests/test_openapi.py proves that it fits.
    return HttpResponse(json.dumps(shown(message), ensure_ascii=False), status=status, content_type="application/json")


@router.get("/messages", auth=READ, response={200: Page[MessageOut], **documented()}, summary="List messages")
def list_messages(
    request: HttpRequest, cursor: Cursor = "", limit: Limit = 50,
    account_id: Annotated[Id | None, Query()] = None, chat: Annotated[str, Query(max_length=80)] = "",
    state: Annotated[State | None, Query()] = None, direction: Annotated[Literal["in", "out"] | None, Query()] = None,
    q: Annotated[str, Query(max_length=100, description="Words the message contains.")] = "",
    since: Annotated[Time | None, Query(description="Accepted or arrived since.")] = None,
) -> Any:  # fmt: skip
    """The newest first."""
    rows = Message.objects.select_related("chat", "media").filter(**_within(request, account_id))
    if chat:
        rows = rows.filter(chat__jid=chat)
    if state:
        rows = rows.filter(state=state)
    if direction:
        rows = rows.filter(direction=direction)
    if since:
        rows = rows.filter(created_at__gte=since)
    if q:
        rows = rows.search(q.replace("\x00", ""))
    return page(rows, cursor, limit, shown)


@router.get("/messages/{message_id}", auth=READ, response={200: MessageOut, **documented()}, summary="Get a message")
def get_message(request: HttpRequest, message_id: Id) -> Any:
    """As it is now."""
    return shown(message_of(request, message_id))


@router.post("/messages/{message_id}/cancel", auth=SEND, response={200: MessageOut, **documented(409)},
             summary="Cancel a message")  # fmt: skip
def cancel(request: HttpRequest, message_id: Id) -> Any:
    """Take it back while it is still queued, 409 afterwards."""
    message = message_of(request, message_id)
    if not message.cancel(key_of(request).name):
        raise Refused("wrong_state", f"It is {_fresh(message).state}: only a queued message can be cancelled.")
    return shown(message)


@router.post("/messages/{message_id}/resend", auth=SEND, response={202: MessageOut, **documented(409)},
             summary="Send a message again")  # fmt: skip
def resend(request: HttpRequest, message_id: Id) -> Any:
    """Queue a failed, uncertain or cancelled message again. An uncertain one may then arrive twice."""
    message = message_of(request, message_id)
    check_account(account_of(request, message.account_id, sending=True))
    if not message.is_out or not message.resend(key_of(request).name):
        raise Refused("wrong_state", f"It is {_fresh(message).state}: there is nothing to send again.")
    return Status(202, shown(_fresh(message)))


@router.get("/chats", auth=READ, response={200: Page[ChatOut], **documented()}, summary="List chats")
def list_chats(request: HttpRequest, account_id: Annotated[Id, Query()], cursor: Cursor = "", limit: Limit = 50) -> Any:
    """The conversations of an account, those begun last first."""
    account_of(request, account_id)
    return page(Chat.objects.filter(account_id=account_id), cursor, limit, chat_body)


def shown(message: Message) -> dict[str, Any]:
    """Return a message with the signed address of its file."""
    return with_url(message_body(message))


def message_of(request: HttpRequest, pk: int) -> Message:
    """Return a message of an account this key may use. Raises Refused."""
    key: ApiKey = key_of(request)
    message = Message.objects.select_related("chat", "media", "account__session").filter(pk=pk).first()
    if message is None or not key.reaches(message.account_id):
        raise Refused("not_found", f"There is no message {pk} for this key.")
    return message


def _within(request: HttpRequest, account_id: int | None) -> dict[str, Any]:
    if account_id is not None:
        return {"account_id": account_of(request, account_id).pk}
    return {"account__in": reachable_accounts(request)} if key_of(request).limited else {}


def _wait(message: Message, seconds: float) -> bool:
    """Wait until the outcome is known; False when it did not come in time or too many wait already."""
    if not _waiters.acquire(blocking=False):
        return False
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
            message.refresh_from_db()
            if MessageState(message.state) in AT_REST:
                return True
        return False
    finally:
        _waiters.release()


def _fresh(message: Message) -> Message:
    return Message.objects.select_related("chat", "media", "account__session").get(pk=message.pk)
