"""The API for bulk sends, webhooks and events; the event stream as a WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings  # type: ignore[attr-defined]

from accounts.models import Account, ApiKey, Scope
from messaging.models import Bulk, Delivery, DeliveryState, Event, EventKind, WebhookEndpoint
from tests.test_api import Caller, _no_counts, account, caller, connected, refused

__all__ = ["_no_counts", "account", "caller"]

pytestmark = pytest.mark.django_db


def event(account: Account, n: int) -> Event:
    return Event.append(EventKind.SESSION, account.pk, {"n": n})


# -- bulk sends


def begin(caller: Caller, account: Account, **changes: Any) -> Any:
    people = [{"phone": "0812-0000-0001", "variables": {"name": "Siti"}}, {"phone": "12"}, {"phone": "+6281200000001"}]
    return caller.post("/bulks", {"account_id": account.pk, "name": "News", "text": "Hi {{name|you}}",
                                  "recipients": people} | changes)  # fmt: skip


def test_a_bulk_send_is_begun_watched_and_controlled(caller: Caller, account: Account) -> None:
    told = begin(caller, account)
    assert told.status_code == 201, told.content
    path = f"/bulks/{told.json()['id']}"
    assert told.json()["progress"] | {"total": 2, "waiting": 1, "refused": 1} == told.json()["progress"]
    people = caller.get(f"{path}/recipients").json()["items"]
    assert [(one["phone"], one["state"]) for one in people] == [("+6281200000001", "waiting"), ("12", "refused")]
    assert "not a phone number" in people[1]["error"]
    assert caller.post(f"{path}/pause").json()["state"] == "paused"
    refused(caller.post(f"{path}/pause"), 409, "wrong_state")
    assert caller.post(f"{path}/resume").json()["state"] == "running"
    assert caller.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert caller.get("/bulks").json()["items"][0]["state"] == "cancelled"
    limited = Caller(ApiKey.make("limited", list(Scope), [connected("Other")])[1])
    refused(limited.get(path), 404, "not_found")
    assert limited.get("/bulks").json()["items"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"text": "{Hi|Hello"}, "template_invalid"), ({"text": None}, "invalid_request"),
        ({"recipients": []}, "invalid_request"), ({"send_at": "2001-01-01T00:00:00Z"}, "send_at_past"),
        ({"kind": "image", "text": None}, "media_missing"),
        ({"kind": "image", "text": None, "media": {"base64": "aGk="}}, "media_type"),
    ],
)
def test_a_bulk_send_that_could_serve_nobody_is_refused(
    caller: Caller, account: Account, change: dict[str, Any], code: str
) -> None:
    refused(begin(caller, account, **change), 422, code)
    assert Bulk.objects.count() == 0


def upload(caller: Caller, account: Account, data: bytes, text: str = "Hi {{name}}") -> Any:
    client = Client(headers={"Authorization": f"Bearer {caller.key}"})
    body = {"account_id": account.pk, "name": "News", "text": text, "file": SimpleUploadedFile("a.csv", data)}
    return client.post("/api/v1/bulks/csv", body)


@pytest.mark.parametrize("data", ["name,phone\nSiti,0812-0000-0001\n\n", "\ufeffPhone;name\n+6281200000001;Siti\n",
                                  "phone\tname\n6281200000001\tSiti"])  # fmt: skip
def test_recipients_come_from_a_csv_file(caller: Caller, account: Account, data: str) -> None:
    answer = upload(caller, account, data.encode())
    assert answer.status_code == 201, answer.content
    recipient = Bulk.objects.get().recipients.get()
    assert (recipient.phone, recipient.variables) == ("6281200000001", {"name": "Siti"})


@pytest.mark.parametrize("data", [b"", b"name\nSiti\n", b"\xff\xfe\x00", b'phone\n"unclosed', b"phone\n"])
def test_a_file_that_is_no_list_of_recipients_is_refused(caller: Caller, account: Account, data: bytes) -> None:
    answer = upload(caller, account, data)
    assert answer.status_code == 422, answer.content
    assert Bulk.objects.count() == 0


# -- webhooks


def hook(caller: Caller, **body: Any) -> Any:
    return caller.post("/webhooks", {"url": "https://8.8.8.8/hook"} | body)


def test_a_webhook_is_made_shown_changed_tested_rotated_and_deleted(caller: Caller, account: Account) -> None:
    told = hook(caller, events=["message.received"], account_id=account.pk)
    assert told.status_code == 201, told.content
    secret, path = told.json()["secret"], f"/webhooks/{told.json()['id']}"
    assert secret.startswith("whsec_")
    assert secret not in caller.get(path).content.decode() + caller.get("/webhooks").content.decode()
    assert caller.call("PATCH", path, {"events": [], "description": "shop"}).json()["description"] == "shop"
    refused(caller.call("PATCH", path, {"url": "https://10.0.0.1/"}), 422, "url_private")
    rotated = caller.post(f"{path}/rotate").json()["secret"]
    assert rotated != secret
    delivery = caller.post(f"{path}/test").json()
    assert (delivery["type"], delivery["state"]) == ("webhook.test", "pending")
    refused(caller.post(f"{path}/deliveries/{delivery['id']}/replay"), 409, "wrong_state")
    Delivery.objects.update(state=DeliveryState.DEAD)
    assert caller.post(f"{path}/deliveries/{delivery['id']}/replay").json()["replay"] is True
    assert [one["state"] for one in caller.get(f"{path}/deliveries").json()["items"]] == ["pending", "dead"]
    assert caller.call("PATCH", path, {"enabled": False}).json()["enabled"] is False
    refused(caller.post(f"{path}/test"), 409, "webhook_disabled")
    assert caller.call("PATCH", path, {"enabled": True}).json()["enabled"] is True
    now = timezone.now()
    event(account, 1)
    Event.objects.publish()
    body = {"since": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(hours=1)).isoformat()}
    assert caller.post(f"{path}/replay", body).json() == {"count": 1}
    assert caller.call("DELETE", path).status_code == 204
    refused(caller.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "http://8.8.8.8/"}, "url_not_https"), ({"url": "https://localhost/"}, "url_private"),
        ({"url": "https://169.254.169.254/"}, "url_private"),
        ({"url": "https://no-such-host.invalid/"}, "url_unresolved"),
        ({"url": "nonsense"}, "url_not_https"), ({"url": "https://a:b@8.8.8.8/"}, "url_invalid"),
        ({"events": ["message.eaten"]}, "invalid_request"), ({"secret": "mine"}, "invalid_request"),
    ],
)  # fmt: skip
def test_a_wrong_webhook_is_refused(caller: Caller, body: dict[str, Any], code: str) -> None:
    refused(hook(caller, **body), 422, code)
    assert WebhookEndpoint.objects.count() == 0


def test_a_private_webhook_is_allowed_only_by_setting(caller: Caller, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_URLS = True
    assert hook(caller, url="http://127.0.0.1:9/").status_code == 201


def test_a_limited_key_manages_the_webhooks_of_its_accounts_alone(caller: Caller, account: Account) -> None:
    limited = Caller(ApiKey.make("limited", list(Scope), [account])[1])
    every, mine = hook(caller).json()["id"], hook(limited, account_id=account.pk).json()["id"]
    refused(hook(limited), 403, "scope_missing")
    assert [one["id"] for one in limited.get("/webhooks").json()["items"]] == [mine]
    refused(limited.get(f"/webhooks/{every}"), 404, "not_found")


# -- events


def test_events_are_read_in_order_and_none_twice(caller: Caller, account: Account) -> None:
    other = connected("Other")
    for n in range(5):
        event(account if n % 2 == 0 else other, n)
    first = caller.get("/events?limit=2").json()
    rest = caller.get(f"/events?cursor={first['next']}").json()
    assert [one["data"]["n"] for one in first["items"] + rest["items"]] == [0, 1, 2, 3, 4]
    assert caller.get(f"/events?cursor={rest['next']}").json() == {"items": [], "next": rest["next"]}
    assert [one["data"]["n"] for one in caller.get(f"/events?account_id={other.pk}").json()["items"]] == [1, 3]
    limited = Caller(ApiKey.make("limited", list(Scope), [other])[1])
    seen = limited.get("/events").json()
    assert [one["data"]["n"] for one in seen["items"]] == [1, 3]
    assert seen["next"] == rest["next"]
    refused(caller.get("/events?cursor=x"), 422, "invalid_request")


@asynccontextmanager
async def stream(key: str, query: str = "") -> AsyncIterator[WebsocketCommunicator]:
    from waserver.asgi import application

    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    socket = WebsocketCommunicator(application, f"/ws/events/{query}", headers=headers)
    assert (await socket.connect())[0]
    yield socket
    await socket.disconnect()


async def closed(socket: WebsocketCommunicator) -> int:
    return int((await socket.receive_output(timeout=30))["code"])


@pytest.mark.django_db(transaction=True)
async def test_the_stream_goes_on_from_a_cursor(settings: Settings) -> None:
    settings.WATCH_INTERVAL = timedelta(seconds=0.05)
    account = await sync_to_async(connected)("Front office")
    key = (await sync_to_async(ApiKey.make)("shop", [Scope.READ]))[1]
    await sync_to_async(event)(account, 1)
    async with stream(key) as socket:
        await socket.receive_nothing(0.2)
        await sync_to_async(event)(account, 2)
        told = json.loads(await socket.receive_from(timeout=30))
        assert (told["data"], told["type"]) == ({"n": 2}, "session.changed")
    await sync_to_async(event)(account, 3)
    async with stream(key, f"?cursor={told['cursor']}") as socket:
        assert json.loads(await socket.receive_from(timeout=30))["data"] == {"n": 3}
    async with stream(key, "?cursor=0") as socket:
        assert [json.loads(await socket.receive_from(timeout=30))["data"]["n"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
async def test_the_stream_needs_a_key_that_may_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await sync_to_async(ApiKey.make)("shop", [Scope.SEND]))[1]
    for given, query, code in (("", "", 4401), ("nonsense", "", 4401), (key, "", 4403), (key, "?cursor=x", 4400)):
        async with stream(given, query) as socket:
            assert await closed(socket) == code
    monkeypatch.setattr("messaging.consumers._RECHECK", 0.0)
    reader, secret = await sync_to_async(ApiKey.make)("reader", [Scope.READ])
    async with stream(secret) as socket:
        await socket.receive_nothing(0.2)
        await sync_to_async(reader.revoke)()
        assert await closed(socket) == 4401
