"""Message: one outbound or inbound message, and the changes of state it may go through."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, cast

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.change import change, change_each, insert
from accounts.models import Account, ApiKey
from messaging import hints
from messaging.kinds import Kind, text_of
from messaging.models.chat import Chat, ContactPause
from messaging.models.event import Event, EventKind
from messaging.models.gathering import Gathering
from messaging.models.media import Media
from messaging.pacing import DAY, MINUTE, Past
from messaging.rendering import message_body
from messaging.states import ACKNOWLEDGED, MessageState, before
from sessions_app.models import Session

S = MessageState


class Direction(models.TextChoices):
    """Which way it goes."""

    OUT = "out", _("out")
    IN = "in", _("in")


class OnUncertain(models.TextChoices):
    """What to do when the outcome of a send is unknown. Chosen by whoever queues it, beforehand."""

    HOLD = "hold", _("wait for a receipt or a person")
    RESEND = "resend", _("send it again: the receiver may get it twice")


@dataclass(frozen=True)
class Once:
    """A caller's Idempotency-Key and what it stood for: the same again is the message there is."""

    #: So long; then the key may be used for another.
    LIFETIME: ClassVar = timedelta(hours=24)

    key_hash: str
    body_hash: str

    @classmethod
    def of(cls, key: str, body: bytes) -> Once:
        """Return what stands for a key and a body. A hash, since MariaDB takes “A” and “a” for the same key."""
        return cls(hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(body).hexdigest())


#: A late receipt gets so long before an uncertain message with on_uncertain=resend is sent again.
RESEND_AFTER = timedelta(seconds=60)


#: Whether a message may be handed over now, as the courier asks it all the time: see `MessageQuerySet.due`, `due_at`.
DUE = (
    "messaging_message.state = 'queued' AND messaging_message.next_at <= %s "
    "AND (messaging_message.expires_at IS NULL OR messaging_message.expires_at > %s) "
    "AND (messaging_message.media_id IS NULL OR EXISTS("
    "SELECT 1 FROM messaging_media f WHERE f.id = messaging_message.media_id AND f.state = 'stored')) "
    "AND NOT EXISTS(SELECT 1 FROM messaging_message e WHERE e.chat_id = messaging_message.chat_id "
    "AND e.id < messaging_message.id AND e.direction = 'out' AND (e.state = 'sending' OR (e.state = 'queued' "
    "AND (e.send_at IS NULL OR e.send_at <= %s) AND (e.expires_at IS NULL OR e.expires_at > %s))))"
)


def due_at(now: datetime) -> list[Any]:
    """Return the parameters of DUE."""
    return [connection.ops.adapt_datetimefield_value(now)] * DUE.count("%s")


class MessageQuerySet(models.QuerySet["Message"]):
    def due(self, now: datetime) -> MessageQuerySet:
        """Those that may be handed over now: the first unfinished one of each chat. Longest due first."""
        found = self.extra(where=[DUE], params=due_at(now))  # noqa: S610 - a constant
        return cast("MessageQuerySet", found.order_by("next_at", "pk"))

    def left_behind(self, account_id: int, epoch: int) -> MessageQuerySet:
        """Those handed over under an earlier lease and never answered: their outcome is unknown."""
        return self.filter(account_id=account_id, state=S.SENDING, epoch__lt=epoch)

    def orphaned(self, now: datetime) -> MessageQuerySet:
        """Those whose sender is gone, whoever owns the session now: their outcome is unknown."""
        newer = Q(epoch__lt=F("account__session__lease_epoch"))
        nobody = Q(account__session__host=None, claimed_at__lt=now - 2 * settings.LEASE)
        return self.filter(newer | nobody, state=S.SENDING)

    def expired(self, now: datetime) -> MessageQuerySet:
        """Those still queued past their `expires_at`."""
        return self.filter(state=S.QUEUED, expires_at__lte=now)

    def to_resend(self, now: datetime) -> MessageQuerySet:
        """Uncertain ones whose sender chose beforehand that they go out again, once a late receipt had its time."""
        return self.filter(state=S.UNCERTAIN, on_uncertain=OnUncertain.RESEND, changed_at__lte=now - RESEND_AFTER)

    def uncertain_in(self, chat: Chat) -> MessageQuerySet:
        """Those of a chat that a receipt with an id we do not know could be for, oldest first."""
        return self.filter(chat=chat, state=S.UNCERTAIN, whatsapp_id=None).order_by("pk")

    def past(self, account_id: int, now: datetime) -> Past:
        """Return what the account did lately, for messaging.pacing; whoever sends keeps it up to date from then on."""
        handed = self.filter(account_id=account_id, direction=Direction.OUT).order_by("claimed_at")
        sent = handed.filter(claimed_at__gt=now - MINUTE).values_list("claimed_at", flat=True)
        cold = handed.filter(claimed_at__gt=now - DAY, chat__last_inbound_at=None).exclude(chat__jid__endswith="@g.us")
        return Past(
            deque(at for at in sent if at), deque(at for at in cold.values_list("claimed_at", flat=True) if at),
            Session.objects.filter(account_id=account_id).values_list("paired_at", flat=True).first(),
            ContactPause.objects.until(account_id, now),
        )  # fmt: skip

    def search(self, words: str) -> MessageQuerySet:
        """Those whose words contain this."""
        return self.filter(text__icontains=words)


class Message(models.Model):
    """Outbound ones are written by whoever queues and cancels them, and by the host that holds the session's lease."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="messages", db_index=False)
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="messages", db_index=False)
    direction = models.CharField(_("direction"), max_length=3, choices=Direction.choices)
    kind = models.CharField(_("kind"), max_length=12, choices=[(k, k) for k in Kind])
    content = models.JSONField(_("content"), default=dict)
    text = models.TextField(_("text"), blank=True)  # the words of `content`, for search
    media = models.ForeignKey(Media, on_delete=models.SET_NULL, null=True, blank=True, related_name="messages")
    #: What it replies to, reacts to, edits or revokes. Of an inbound one we may not have it: then content says its id.
    target = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    state = models.CharField(_("state"), max_length=12, choices=[(s, s) for s in MessageState])
    whatsapp_id = models.CharField(_("WhatsApp id"), max_length=80, null=True, blank=True)  # noqa: DJ001 - unique, unknown until sent
    error_code = models.CharField(_("error code"), max_length=40, blank=True)
    error = models.TextField(_("error"), blank=True)

    # outbound
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    #: NULL without one, and once it has been used for another message.
    idempotency_hash = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 - unique where there is one
    body_hash = models.CharField(max_length=64, blank=True, editable=False)
    queued_by = models.CharField(_("queued by"), max_length=150, blank=True)
    on_uncertain = models.CharField(
        _("when uncertain"), max_length=8, choices=OnUncertain.choices, default=OnUncertain.HOLD
    )
    send_at = models.DateTimeField(_("send at"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    claimed_at = models.DateTimeField(_("handed over"), null=True, blank=True)

    # inbound: who wrote it (in a group not the chat's own address)
    sender_jid = models.CharField(_("sender"), max_length=80, blank=True)
    sender_phone = models.CharField(_("sender's number"), max_length=20, blank=True)
    sender_lid = models.CharField(_("sender's LID"), max_length=40, blank=True)
    sender_name = models.CharField(_("sender's name"), max_length=120, blank=True)

    created_at = models.DateTimeField(_("accepted"), default=timezone.now)
    changed_at = models.DateTimeField(_("changed"), default=timezone.now)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)  # inbound: when it was written
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    read_at = models.DateTimeField(_("read"), null=True, blank=True)
    edited_at = models.DateTimeField(_("edited"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("deleted for everyone"), null=True, blank=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        permissions = [("send_message", "Can send messages"), ("resend_message", "Can send uncertain messages again")]
        constraints = [
            # An id is unique in a chat; it makes storing an inbound message twice impossible.
            models.UniqueConstraint(fields=["chat", "whatsapp_id"], name="message_once_per_chat"),
            # On the message itself: accepting one is a single statement, which commits by itself.
            models.UniqueConstraint(fields=["api_key", "idempotency_hash"], name="message_once_per_key"),
        ]
        indexes = [
            models.Index(fields=["account", "whatsapp_id"], name="message_by_whatsapp_id"),
            models.Index(fields=["account", "state", "next_at"], name="message_due"),
            models.Index(fields=["state", "next_at"], name="message_by_state"),
            models.Index(fields=["chat", "state"], name="message_in_chat"),
            models.Index(fields=["account", "id"], name="message_of_account"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    # -- how it comes into being

    @classmethod
    def queue(
        cls, chat: Chat, kind: Kind, content: Mapping[str, Any], *, media: Media | None = None,
        target: Message | None = None, send_at: datetime | None = None, expires_at: datetime | None = None,
        on_uncertain: OnUncertain = OnUncertain.HOLD, by: str = "", api_key: ApiKey | None = None,
        once: Once | None = None, now: datetime | None = None,
    ) -> Message:  # fmt: skip
        """Accept one for sending. Its content was checked by whoever calls (messaging.content). Raises IntegrityError
        when its key was given before.
        """
        now = now or timezone.now()
        row = insert(cls(
            account_id=chat.account_id, chat=chat, direction=Direction.OUT, kind=kind, content=dict(content),
            text=text_of(kind, dict(content)), media=media, target=target, state=S.QUEUED, api_key=api_key,
            queued_by=by, on_uncertain=on_uncertain, send_at=send_at, expires_at=expires_at, next_at=send_at or now,
            created_at=now, changed_at=now, idempotency_hash=once.key_hash if once else None,
            body_hash=once.body_hash if once else "",
        ))  # fmt: skip
        hints.queued()
        return row

    @classmethod
    def receive(
        cls, chat: Chat, whatsapp_id: str, kind: Kind, content: Mapping[str, Any], at: datetime, *,
        media: Media | None = None, target: Message | None = None, sender_jid: str = "", sender_phone: str = "",
        sender_lid: str = "", sender_name: str = "", from_me: bool = False,
    ) -> Message:  # fmt: skip
        """Store one that arrived and tell it. Edits and revokes change their target. Raises IntegrityError when it is
        stored already.

        `from_me`: written on the phone itself, so outbound and sent, though not by us.
        """
        now = timezone.now()
        with transaction.atomic(savepoint=False):
            row = insert(cls(
                account_id=chat.account_id, chat=chat, whatsapp_id=whatsapp_id,
                direction=Direction.OUT if from_me else Direction.IN, kind=kind, content=dict(content),
                text=text_of(kind, dict(content)), media=media, target=target, state=S.SENT if from_me else S.RECEIVED,
                sender_jid=sender_jid, sender_phone=sender_phone, sender_lid=sender_lid, sender_name=sender_name[:120],
                created_at=now, changed_at=now, sent_at=at,
            ))  # fmt: skip
            Chat.note(chat.pk, at, inbound=not from_me)
            if target is not None:
                target.changed_by(row, at)
            if not from_me:
                row.tell(_TOLD_OF_INBOUND.get(kind, EventKind.RECEIVED), at)
        return row

    def changed_by(self, other: Message, at: datetime) -> None:
        """Take over what an edit or a revoke says. The words before an edit stay in `content["before"]`."""
        if other.kind == Kind.EDIT:
            field = "text" if "text" in self.content else "caption"
            earlier = [*self.content.get("before", []), self.content.get(field, "")]
            self.content = {**self.content, field: other.content.get("text", ""), "before": earlier}
            self.text, self.edited_at = text_of(self.kind, self.content), at
            self.save(update_fields=["content", "text", "edited_at"])
        elif other.kind == Kind.REVOKE:
            self.revoked_at = at
            self.save(update_fields=["revoked_at"])

    # -- what becomes of it: each returns whether the change was allowed from the state the row is in

    def sent(self, whatsapp_id: str, at: datetime) -> bool:
        """WhatsApp acknowledged it."""
        with transaction.atomic(savepoint=False):
            changed = self._change(S.SENT, EventKind.SENT, at, whatsapp_id=whatsapp_id, sent_at=at, error_code="",
                                   error="", next_at=None)  # fmt: skip
            if changed:
                Chat.note(self.chat_id, at, inbound=False)
                if self.target is not None:
                    self.target.changed_by(self, at)
        return changed

    def retry(self, next_at: datetime, code: str, error: str) -> bool:
        """It was certainly not sent and is tried again."""
        return self._change(S.QUEUED, None, timezone.now(), next_at=next_at, error_code=code, error=error)

    def postpone(self, next_at: datetime, code: str = "", error: str = "") -> bool:
        """It waits, still queued, for a reason that is not its own: quiet hours, a pause, a session that is not up."""
        return Message.objects.filter(pk=self.pk, state=S.QUEUED).update(
            next_at=next_at, error_code=code, error=error) == 1  # fmt: skip

    def fail(self, code: str, error: str) -> bool:
        """It will certainly not be sent."""
        return self._change(S.FAILED, EventKind.FAILED, timezone.now(), error_code=code, error=error, next_at=None)

    def uncertain(self, code: str, error: str) -> bool:
        """It was handed over and nobody knows what came of it."""
        return self._change(S.UNCERTAIN, EventKind.UNCERTAIN, timezone.now(), error_code=code, error=error,
                            next_at=None)  # fmt: skip

    def delivered(self, at: datetime, whatsapp_id: str = "") -> bool:
        """A receipt says it reached the receiver; with `whatsapp_id` it resolves an uncertain one."""
        return self._receipt(S.DELIVERED, EventKind.DELIVERED, at, whatsapp_id, delivered_at=at)

    def read(self, at: datetime, whatsapp_id: str = "") -> bool:
        """A receipt says it was read."""
        known = {} if self.delivered_at else {"delivered_at": at}
        return self._receipt(S.READ, EventKind.READ, at, whatsapp_id, read_at=at, **known)

    def cancel(self, by: str) -> bool:
        """Take it back while it is still queued."""
        return self._change(S.CANCELLED, EventKind.CANCELLED, timezone.now(), error_code="cancelled",
                            error=str(_("Cancelled by %(by)s.") % {"by": by}), next_at=None)  # fmt: skip

    def resend(self, by: str) -> bool:
        """Queue it again: a failed, uncertain or cancelled one. An uncertain one may then arrive twice."""
        now = timezone.now()
        return self._change(S.QUEUED, None, now, next_at=now, send_at=None, expires_at=None, whatsapp_id=None,
                            attempts=0, error_code="", error="", queued_by=by,
                            state__in=[S.FAILED, S.UNCERTAIN, S.CANCELLED])  # fmt: skip

    def tell(self, kind: EventKind, at: datetime) -> Event:
        """Append the event that tells of it as it is now."""
        return Event.append(kind, self.account_id, message_body(self), message=self, at=at)

    def _receipt(self, state: MessageState, kind: EventKind, at: datetime, whatsapp_id: str, **values: Any) -> bool:
        if whatsapp_id:
            values |= {"whatsapp_id": whatsapp_id}
        if self.sent_at is None:
            values |= {"sent_at": at}
        return self._change(state, kind, at, error_code="", error="", next_at=None, **values)

    def _change(
        self, state: MessageState, kind: EventKind | None, at: datetime, *, state__in: list[MessageState] | None = None,
        **values: Any,
    ) -> bool:  # fmt: skip
        values |= {"state": state, "changed_at": timezone.now()}
        allowed = state__in or before(state)
        with transaction.atomic(savepoint=False):
            gathered = CHANGES.gathered
            if gathered is not None and self.state in allowed:
                CHANGES.add((self.pk, allowed, values))
            elif gathered and any(pk == self.pk for pk, _allowed, _values in gathered):
                return False  # the database does not know yet
            elif change(Message, values, id=self.pk, state=allowed) != 1:
                return False
            for field, value in values.items():
                setattr(self, field, value)
            if kind is not None:
                self.tell(kind, at)
        return True

    @property
    def is_out(self) -> bool:
        """Return whether it goes out."""
        return self.direction == Direction.OUT

    @property
    def is_acknowledged(self) -> bool:
        """Return whether it certainly reached WhatsApp."""
        return self.state in ACKNOWLEDGED


_ORDER: dict[str, int] = {state: position for position, state in enumerate(S)}


class OvertakenError(Exception):
    """A row was not in the state any more in which it was read, so what was to be written together was not."""


def _write(changes: list[tuple[int, list[MessageState], dict[str, Any]]]) -> None:
    alike: dict[tuple[str, ...], tuple[list[MessageState], dict[int, dict[str, Any]]]] = {}
    for pk, allowed, values in changes:
        alike.setdefault((values["state"], *values), (allowed, {}))[1][pk] = values
    # In the order of the states, since a receipt may come with another: delivered, then read.
    for allowed, rows in (alike[key] for key in sorted(alike, key=lambda key: _ORDER[key[0]])):
        if change_each(Message, rows, state=allowed) != len(rows):
            raise OvertakenError


#: What becomes of messages, as one knows them; `together` writes it in a statement for each state. Raises
#: OvertakenError: then each is to be changed by itself.
CHANGES = Gathering(_write)

_TOLD_OF_INBOUND = {
    Kind.EDIT: EventKind.EDITED, Kind.REVOKE: EventKind.REVOKED, Kind.REACTION: EventKind.REACTION,
}  # fmt: skip


class Receipt(models.Model):
    """What one member of a group confirmed of a message; a chat with one person needs none."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="receipts")
    participant = models.CharField(_("participant"), max_length=80)
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    read_at = models.DateTimeField(_("read"), null=True)

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        constraints = [models.UniqueConstraint(fields=["message", "participant"], name="receipt_once")]

    def __str__(self) -> str:
        return self.participant
