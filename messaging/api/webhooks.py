"""Webhooks, as programs manage them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import StrictBool

from messaging import outgoing
from messaging.api.auth import MANAGE, account_of, key_of, reachable_accounts
from messaging.api.paging import Cursor, Id, Limit, Page, page
from messaging.api.problems import documented
from messaging.api.schemas import Clean, In, Time
from messaging.errors import Refused
from messaging.models import Delivery, DeliveryState, Event, EventKind, WebhookEndpoint

router = Router(tags=["webhooks"])

Url = Annotated[str, Field(max_length=2000, examples=["https://example.org/whatsapp"],
                           description="https, at a public address.")]  # fmt: skip
Description = Annotated[str, Field(max_length=120), Clean]
EventName = Literal[
    "message.received", "message.sent", "message.delivered", "message.read", "message.failed", "message.uncertain",
    "message.cancelled", "message.edited", "message.revoked", "message.reaction", "session.changed",
]  # fmt: skip
Events = Annotated[list[EventName], Field(max_length=20, description="Which; an empty list is all.")]
assert set(EventName.__args__) == set(EventKind.values) - {EventKind.TEST}  # type: ignore[attr-defined]


class WebhookIn(In):
    """A new endpoint."""

    url: Url
    account_id: Annotated[Id | None, Field(description="Leave out for every account.")] = None
    events: Events = []
    description: Description = ""


class WebhookPatch(In):
    """What to change."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: StrictBool | None = None


class WebhookOut(Schema):
    """An endpoint. Its secret is shown when it is made or rotated."""

    id: int
    url: str
    account_id: int | None = None
    events: list[str]
    description: str
    enabled: bool
    disabled_reason: str = ""
    failing_since: datetime | None = None
    created_at: datetime


class WebhookSecretOut(WebhookOut):
    """With its secret, to verify signatures with (standardwebhooks.com)."""

    secret: str = Field(examples=["whsec_…"])


class DeliveryOut(Schema):
    """One event on its way to one endpoint."""

    id: int
    event_id: str = Field(examples=["evt_1"])
    type: str
    account_id: int | None = None
    state: Literal["pending", "delivered", "dead"]
    replay: bool
    attempts: int
    code: int | None = Field(None, description="HTTP status of the last attempt.")
    error: str = ""
    created_at: datetime
    last_at: datetime | None = None
    next_at: datetime | None = None


class ReplayIn(In):
    """Which events to send again."""

    since: Time
    until: Time


class CountOut(Schema):
    """How many."""

    count: int


@router.post("/webhooks", auth=MANAGE, response={201: WebhookSecretOut, **documented()}, summary="Create a webhook")
def create_webhook(request: HttpRequest, payload: WebhookIn) -> Any:
    """It gets what happens from now on. Keep the secret: it is not shown again."""
    outgoing.check(payload.url)
    if payload.account_id is not None:
        account_of(request, payload.account_id)
    elif key_of(request).limited:
        raise Refused("scope_missing", "This key is limited to some accounts: give `account_id`.")
    endpoint = WebhookEndpoint.objects.create(**payload.model_dump())
    return Status(201, {**webhook_body(endpoint), "secret": endpoint.secret})


@router.get("/webhooks", auth=MANAGE, response={200: Page[WebhookOut], **documented()}, summary="List webhooks")
def list_webhooks(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Those this key may manage."""
    return page(_reachable(request), cursor, limit, webhook_body, newest_first=False)


@router.get("/webhooks/{webhook_id}", auth=MANAGE, response={200: WebhookOut, **documented()}, summary="Get a webhook")
def get_webhook(request: HttpRequest, webhook_id: Id) -> Any:
    """Without its secret."""
    return webhook_body(endpoint_of(request, webhook_id))


@router.patch("/webhooks/{webhook_id}", auth=MANAGE, response={200: WebhookOut, **documented()},
              summary="Change a webhook")  # fmt: skip
def change_webhook(request: HttpRequest, webhook_id: Id, payload: WebhookPatch) -> Any:
    """Only what is given. `enabled: true` sends what waited."""
    endpoint = endpoint_of(request, webhook_id)
    if payload.url is not None:
        outgoing.check(payload.url)
    changes = payload.model_dump(exclude_none=True, exclude={"enabled"})
    for field, value in changes.items():
        setattr(endpoint, field, value)
    if changes:
        endpoint.save(update_fields=list(changes))
    if payload.enabled is True:
        endpoint.enable()
    elif payload.enabled is False and endpoint.disabled_at is None:
        endpoint.switch_off(f"API key {key_of(request).name}")
    return webhook_body(endpoint)


@router.delete("/webhooks/{webhook_id}", auth=MANAGE, response={204: None, **documented()}, summary="Delete a webhook")
def delete_webhook(request: HttpRequest, webhook_id: Id) -> Any:
    """With its deliveries."""
    endpoint_of(request, webhook_id).delete()
    return Status(204, None)


@router.post("/webhooks/{webhook_id}/rotate", auth=MANAGE, response={200: WebhookSecretOut, **documented()},
             summary="Rotate the secret")  # fmt: skip
def rotate_secret(request: HttpRequest, webhook_id: Id) -> Any:
    """Make a new secret; for 24 hours the old one signs too."""
    endpoint = endpoint_of(request, webhook_id)
    secret = endpoint.rotate()
    return {**webhook_body(endpoint), "secret": secret}


@router.post("/webhooks/{webhook_id}/test", auth=MANAGE, response={202: DeliveryOut, **documented(409)},
             summary="Send a test")  # fmt: skip
def test_webhook(request: HttpRequest, webhook_id: Id) -> Any:
    """Queue an event `webhook.test` to this endpoint alone."""
    endpoint = endpoint_of(request, webhook_id)
    if endpoint.disabled_at is not None:
        raise Refused("webhook_disabled")
    return Status(202, delivery_body(endpoint.send_test()))


@router.get("/webhooks/{webhook_id}/deliveries", auth=MANAGE, response={200: Page[DeliveryOut], **documented()},
            summary="Delivery log")  # fmt: skip
def list_deliveries(
    request: HttpRequest, webhook_id: Id, cursor: Cursor = "", limit: Limit = 50,
    state: Annotated[Literal["pending", "delivered", "dead"] | None, Query()] = None,
) -> Any:  # fmt: skip
    """The newest first."""
    rows = endpoint_of(request, webhook_id).deliveries.select_related("event")
    return page(rows.filter(state=state) if state else rows, cursor, limit, delivery_body)


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", auth=MANAGE, summary="Send a delivery again",
             response={202: DeliveryOut, **documented(409)})  # fmt: skip
def replay_delivery(request: HttpRequest, webhook_id: Id, delivery_id: Id) -> Any:
    """After what waits already; the id of the event stays the same."""
    endpoint = endpoint_of(request, webhook_id)
    delivery = endpoint.deliveries.select_related("event").filter(pk=delivery_id).first()
    if delivery is None:
        raise Refused("not_found")
    if delivery.state == DeliveryState.PENDING:
        raise Refused("wrong_state", "It is still being tried.")
    return Status(202, delivery_body(delivery.again()))


@router.post("/webhooks/{webhook_id}/replay", auth=MANAGE, response={202: CountOut, **documented()},
             summary="Send a time range again")  # fmt: skip
def replay_range(request: HttpRequest, webhook_id: Id, payload: ReplayIn) -> Any:
    """Events that happened since and before these times, in their order, also those before the endpoint was made."""
    endpoint = endpoint_of(request, webhook_id)
    return Status(202, {"count": endpoint.replay(Event.objects.filter(at__gte=payload.since, at__lt=payload.until))})


def endpoint_of(request: HttpRequest, pk: int) -> WebhookEndpoint:
    """Return an endpoint this key may manage. Raises Refused."""
    endpoint = _reachable(request).filter(pk=pk).first()
    if endpoint is None:
        raise Refused("not_found", f"There is no webhook {pk} for this key.")
    return endpoint


def webhook_body(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return an endpoint as JSON, without its secret."""
    return {
        "id": endpoint.pk, "url": endpoint.url, "account_id": endpoint.account_id, "events": endpoint.events,
        "description": endpoint.description, "enabled": endpoint.disabled_at is None,
        "disabled_reason": endpoint.disabled_reason, "failing_since": endpoint.failing_since,
        "created_at": endpoint.created_at,
    }  # fmt: skip


def delivery_body(delivery: Delivery) -> dict[str, Any]:
    """Return a delivery as JSON."""
    return {
        "id": delivery.pk, "event_id": delivery.webhook_id, "type": delivery.event.kind,
        "account_id": delivery.account_id, "state": delivery.state, "replay": delivery.replay,
        "attempts": delivery.attempts, "code": delivery.code, "error": delivery.error,
        "created_at": delivery.created_at, "last_at": delivery.last_at,
        "next_at": delivery.next_at if delivery.state == DeliveryState.PENDING else None,
    }  # fmt: skip


def _reachable(request: HttpRequest) -> QuerySet[WebhookEndpoint]:
    rows = WebhookEndpoint.objects.all()
    return rows.filter(account__in=reachable_accounts(request)) if key_of(request).limited else rows
