"""Webhooks: events become deliveries, and each delivery is one signed call (standardwebhooks.com)."""

from __future__ import annotations

import json
import logging
import random
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from messaging.errors import Refused
from messaging.insistence import Verdict, judge
from messaging.models import Delivery, DeliveryState, Event, WebhookEndpoint
from messaging.outgoing import Answer, CallFailed, Line
from messaging.signed_urls import with_url

_log = logging.getLogger(__name__)

#: Events made into deliveries per endpoint and turn.
_BATCH = 500
#: What an endpoint answers is read up to here, and kept up to there.
ANSWER_LIMIT, _KEPT = 64_000, 500
_dice = random.Random()  # noqa: S311 - jitter


def prepare() -> int:
    """Make deliveries of what was published since; return their number."""
    made = 0
    newest = Event.objects.exclude(position=None).order_by("-position").values_list("position", flat=True).first() or 0
    for pk in WebhookEndpoint.objects.filter(position__lt=newest).values_list("pk", flat=True):
        with transaction.atomic():
            endpoint = WebhookEndpoint.objects.select_for_update().get(pk=pk)
            events = list(Event.objects.after(endpoint.position)[:_BATCH])
            if not events:
                continue
            wanted = [event for event in events if endpoint.wants(event)]
            Delivery.objects.bulk_create(
                (Delivery(endpoint=endpoint, event=event, account_id=event.account_id) for event in wanted),
                batch_size=200,
            )
            WebhookEndpoint.objects.filter(pk=pk).update(position=events[-1].position)
            made += len(wanted)
    return made


def body_of(event: Event) -> bytes:
    """Return what is sent. The addresses of files are signed now, so that they are fresh at each attempt."""
    told = {"type": event.kind, "timestamp": event.at, "account_id": event.account_id, "data": with_url(event.body)}
    return json.dumps(told, cls=DjangoJSONEncoder, ensure_ascii=False).encode()


def headers_of(delivery: Delivery, body: bytes, now: datetime) -> dict[str, str]:
    """Return the signed headers; while a secret is being rotated both sign."""
    signatures = [Webhook(secret).sign(delivery.webhook_id, now, body.decode())
                  for secret in delivery.endpoint.signing_secrets(now)]  # fmt: skip
    return {
        "Content-Type": "application/json", "webhook-id": delivery.webhook_id,
        "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": " ".join(signatures),
    }  # fmt: skip


def deliver(delivery: Delivery, line: Line) -> Verdict:
    """Make one attempt, write down what came of it, and return that."""
    now, began = timezone.now(), time.monotonic()
    body = body_of(delivery.event)
    answer, error = None, ""
    try:
        answer = line.call("POST", delivery.endpoint.url, headers_of(delivery, body, now), body)
    except (Refused, CallFailed) as failure:
        error = failure.sentence if isinstance(failure, Refused) else str(failure)
    verdict = _settled(delivery, answer, error, now, timedelta(seconds=time.monotonic() - began))
    if verdict.gone:
        delivery.endpoint.disable("It answered 410: this address is no more.")
    return verdict


def _settled(delivery: Delivery, answer: Answer | None, error: str, now: datetime, took: timedelta) -> Verdict:
    code = answer.status if answer else None
    delivery.attempts += 1
    delivery.first_at = delivery.first_at or now
    delivery.last_at, delivery.code, delivery.duration = now, code, took
    verdict = judge(code, delivery.attempts, delivery.first_at, timezone.now(), settings.WEBHOOK_GIVE_UP,
                    retry_after=answer.headers.get("retry-after", "") if answer else "",
                    jitter=_dice.random())  # fmt: skip
    if verdict.delivered:
        delivery.state, delivery.finished_at, delivery.error = DeliveryState.DELIVERED, now, ""
    else:
        shown = answer.body[:_KEPT].decode(errors="replace").replace("\x00", "") if answer else ""
        delivery.error = error or f"It answered {code}: {shown}".rstrip(": ")
        if verdict.dead:
            delivery.state, delivery.finished_at = DeliveryState.DEAD, now
        else:
            delivery.next_at = verdict.next_at or now
    delivery.save(update_fields=["state", "attempts", "first_at", "last_at", "next_at", "finished_at", "code",
                                 "duration", "error"])  # fmt: skip
    _note(delivery.endpoint, verdict, now)
    return verdict


def _note(endpoint: WebhookEndpoint, verdict: Verdict, now: datetime) -> None:
    """Remember since when an endpoint fails; after WEBHOOK_DISABLE_AFTER it is disabled, and monitoring says so."""
    row = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if verdict.delivered:
        if endpoint.failing_since is not None:
            row.update(failing_since=None)
            endpoint.failing_since = None
        return
    row.filter(failing_since=None).update(failing_since=now)
    endpoint.failing_since = endpoint.failing_since or now
    if now - endpoint.failing_since >= settings.WEBHOOK_DISABLE_AFTER:
        days = settings.WEBHOOK_DISABLE_AFTER // timedelta(days=1)
        endpoint.disable(f"It failed for {days} days without a success." if days else "It failed for too long.")
        _log.warning("Webhook %d is disabled: it failed since %s", endpoint.pk, endpoint.failing_since)
