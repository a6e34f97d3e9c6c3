"""HTTP, two real sessions, and a webhook sink that is down for a while and then gets everything in order."""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import Any

import pytest
from django.conf import settings
from standardwebhooks import Webhook

from accounts.models import Account, ApiKey, Scope
from messaging.models import Delivery, DeliveryState, Event, Message, WebhookEndpoint
from tests.installation import Installation, wait_for
from tests.test_webhooks import Sink

pytestmark = pytest.mark.real

ANNA, BEN = "4918200000001", "4918200000002"


def send(address: str, key: str, account: Account, to: str, text: str) -> int:
    body = json.dumps({"account_id": account.pk, "to": f"+{to}", "kind": "text", "text": text}).encode()
    request = urllib.request.Request(f"{address}/api/v1/messages", body, {  # noqa: S310 - loopback
        "Authorization": f"Bearer {key}", "Content-Type": "application/json", "Idempotency-Key": text})  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        assert answer.status == 202
        return int(json.load(answer)["id"])


def test_every_event_of_two_talking_sessions_arrives_in_order_after_the_sink_was_down(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ALLOW_PRIVATE_URLS", True)
    installation.environment |= {"PACING": "0", "ALLOW_PRIVATE_URLS": "1"}
    sink, down = Sink(), threading.Event()
    down.set()
    sink.status = lambda told: 503 if down.is_set() else 204
    sessions = [installation.paired("anna", ANNA), installation.paired("ben", BEN)]
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/", events=[
        "message.sent", "message.delivered", "message.received"])  # fmt: skip
    installation.start_host()
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    address = installation.start_web()
    installation.until_all(sessions, "connected")
    _key, secret = ApiKey.make("shop", list(Scope))
    try:
        for n in range(10):
            sender, to = (sessions[0], BEN) if n % 2 == 0 else (sessions[1], ANNA)
            send(address, secret, sender.account, to, f"text {n}")
        wait_for(lambda: Message.objects.filter(direction="in").count() == 10, 60, states)
        wait_for(lambda: Message.objects.filter(state="delivered").count() == 10, 60, states)
        wait_for(lambda: Delivery.objects.filter(attempts__gte=1).count() >= 2, 30, installation.log("dispatcher"))
        assert sink.got == []
        down.clear()
        Delivery.objects.filter(state=DeliveryState.PENDING).update(next_at="2001-01-01T00:00:00Z")
        wait_for(lambda: len(sink.got) >= 30, 60, installation.log("dispatcher"))
    finally:
        sink.close()
    for session in sessions:
        mine = _mine(sink, session.account_id)
        wanted = Event.objects.filter(account=session.account, kind__in=endpoint.events).order_by("position")
        assert mine == [f"evt_{pk}" for pk in wanted.values_list("pk", flat=True)]
    assert len(sink.got) == 30
    assert all(Webhook(endpoint.secret).verify(body, headers) for _path, headers, body in sink.got)


def _mine(sink: Sink, account_id: int) -> list[Any]:
    return [headers["webhook-id"] for _path, headers, body in sink.got if json.loads(body)["account_id"] == account_id]


def states() -> list[Any]:
    """Return what became of every message, for the report of a failure."""
    fields = ("pk", "account_id", "direction", "state", "error_code", "attempts")
    return list(Message.objects.order_by("pk").values_list(*fields))
