"""Feeding a bulk send: its recipients become messages, a few at a time, so that a pause takes hold at once."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from messaging.accept import check_account
from messaging.errors import Refused, sentence
from messaging.kinds import Kind
from messaging.models import Bulk, BulkRecipient, BulkState, Chat, Message, RecipientState
from messaging.models.chat import USER
from messaging.states import MessageState
from messaging.templates import TemplateError, fill

#: Messages of one bulk send that may be queued at once.
AHEAD = 20
_dice = random.Random()  # noqa: S311 - which of several words to use

#: Fields of a content that are templates.
TEXTS = ("text", "caption", "question", "name")


def feed(now: datetime) -> bool:
    """Queue what each running bulk send may; return whether anything was done."""
    running = Bulk.objects.filter(state=BulkState.RUNNING, send_at__lte=now).select_related("account__session", "media")
    fed = [_feed(bulk, now) for bulk in running]  # each, not only up to the first
    return any(fed)


def _feed(bulk: Bulk, now: datetime) -> bool:
    under_way = bulk.recipients.filter(message__state__in=[MessageState.QUEUED, MessageState.SENDING]).count()
    if under_way >= AHEAD:
        return False
    waiting = list(bulk.recipients.filter(state=RecipientState.WAITING).order_by("pk")[: AHEAD - under_way])
    if not waiting:
        if under_way:
            return False
        done = Bulk.objects.filter(pk=bulk.pk, state=BulkState.RUNNING)
        return done.update(state=BulkState.DONE, finished_at=timezone.now()) == 1
    try:
        check_account(bulk.account)
    except Refused:
        return False  # it goes on once the account can send again
    with transaction.atomic():
        # Locked: a pause or cancellation that was committed before stops here, one that comes later finds the messages.
        if not Bulk.objects.select_for_update().filter(pk=bulk.pk, state=BulkState.RUNNING).exists():
            return False
        for recipient in waiting:
            _queue(bulk, recipient, now)
    return True


def _queue(bulk: Bulk, recipient: BulkRecipient, now: datetime) -> None:
    chat = Chat.objects.of(bulk.account_id, f"{recipient.phone}@{USER}")
    try:
        if chat.is_absent(now):
            raise Refused("not_on_whatsapp")
        content = filled(bulk.content, recipient.variables)
    except (Refused, TemplateError) as error:
        recipient.state = RecipientState.REFUSED
        recipient.error = error.sentence if isinstance(error, Refused) else str(error)
        recipient.save(update_fields=["state", "error"])
        return
    recipient.message = Message.queue(chat, Kind(bulk.kind), content, media=bulk.media, by=f"bulk {bulk.name}"[:150],
                                      api_key=bulk.api_key, now=now)  # fmt: skip
    recipient.state = RecipientState.QUEUED
    recipient.save(update_fields=["state", "message"])


def filled(content: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
    """Return a content for one recipient. Raises TemplateError."""
    texts = {name: fill(content[name], variables, _dice.choice) for name in TEXTS if content.get(name)}
    if content.get("text") and not texts["text"].strip():
        raise TemplateError(sentence("template_invalid"))
    return {**content, **texts}
