"""Automatic replies: a reader of the event stream that answers inbound messages by keyword rules."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import Account
from messaging.accept import check_account
from messaging.errors import Refused
from messaging.keywords import answerable, fits
from messaging.kinds import Kind
from messaging.models import AutoReply, AutoReplySent, Event, EventKind, Message, StreamReader

READER = "auto replies"
_BATCH = 200


def answer(now: datetime) -> bool:
    """Answer what arrived since; return whether there was anything to look at. Each event is looked at once."""
    with transaction.atomic():
        reader, _made = StreamReader.objects.select_for_update().get_or_create(name=READER)
        told = list(
            Event.objects.after(reader.position).values_list("position", "kind", "account_id", "message_id")[:_BATCH]
        )
        if not told:
            return False
        arrived = [(account, message) for _at, kind, account, message in told if kind == EventKind.RECEIVED and message]
        rules = _rules({account for account, _message in arrived if account})
        for account, message in arrived:
            if of_account := rules.get(account or 0):
                _answer(message, of_account, now)
        reader.position = told[-1][0] or reader.position
        reader.save(update_fields=["position"])
    return True


def _rules(accounts: set[int]) -> dict[int, list[AutoReply]]:
    rules: dict[int, list[AutoReply]] = {}
    for rule in AutoReply.objects.filter(enabled=True, account__in=accounts).order_by("pk"):
        rules.setdefault(rule.account_id, []).append(rule)
    return rules


def _answer(pk: int, rules: list[AutoReply], now: datetime) -> None:
    message = Message.objects.select_related("chat", "account__session").filter(pk=pk).first()
    if message is None:
        return
    chat = message.chat
    # Two of our own accounts that answer each other would never stop.
    own = bool(chat.phone) and Account.objects.filter(phone=chat.phone).exists()
    if not answerable(message.kind, group=chat.is_group, from_our_own=own, sent_at=message.sent_at or now, now=now):
        return
    rule = next((rule for rule in rules if fits(rule.keyword, rule.match, message.text)), None)
    if rule is None:
        return
    sent, new = AutoReplySent.objects.get_or_create(rule=rule, chat=chat, defaults={"at": now})
    if not new:
        # Another robot at the other end gets one answer per minute, not a conversation.
        if now - sent.at < AutoReply.COOLDOWN:
            return
        sent.at = now
        sent.save(update_fields=["at"])
    try:
        check_account(message.account)
    except Refused:
        return
    Message.queue(chat, Kind.TEXT, {"text": rule.reply, "mentions": [], "preview": False}, by=f"auto reply {rule.pk}",
                  now=now)  # fmt: skip
