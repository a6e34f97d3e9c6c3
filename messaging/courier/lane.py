"""One account's way out: what it may send next, what is on its way, and how fast it may go on."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts.lookup import lookup_all, places, select
from accounts.models import Account
from messaging.courier.outcome import Next, judge
from messaging.errors import sentence
from messaging.models import Chat, ContactPause, Media, MediaState, Message, PacingRule
from messaging.models.message import DUE, due_at
from messaging.pacing import Pace, Past, Turn, turn
from messaging.states import MessageState
from sessions_app.host.extension import Line
from sessions_app.models import Host
from sessions_app.whatsapp.client import NotSent, Sent, Unknown

#: Chats of an account read ahead. Each message is claimed by itself, so what changes meanwhile is seen then.
_AHEAD = 10
#: First messages of chats, and what follows them, read at once for all accounts.
_FIRSTS, _FOLLOWING = 300, 600
#: A turn further away than this is written on the rows, so that people see why they wait.
_SHOWN = 10.0

#: Those still queued, while their leases are ours: two that claim at once see one queued, and one of them changes it.
_CLAIM = (
    "UPDATE messaging_message SET state = 'sending', epoch = CASE account_id {epochs} END, claimed_at = %s, "
    "changed_at = %s, attempts = attempts + 1 WHERE id IN ({ids}) AND state = 'queued' AND next_at <= %s "
    "AND EXISTS(SELECT 1 FROM sessions_app_session s WHERE s.account_id = messaging_message.account_id "
    "AND s.host_id = %s AND s.lease_epoch = CASE s.account_id {epochs} END)"
)
_CLAIMED = "SELECT id, epoch FROM messaging_message WHERE id IN ({ids}) AND state = 'sending' AND claimed_at = %s"

Result = Sent | NotSent | Unknown


def _is_later(row: Message, now: datetime) -> bool:
    """Return whether it is meant for later, or too late: the others of its chat do not wait for it."""
    scheduled = row.send_at is not None and row.send_at > now
    return scheduled or (row.expires_at is not None and row.expires_at <= now)


def _is_ready(row: Message, now: datetime) -> bool:
    """Return whether it may go now, as far as the row says."""
    has_file = row.media is None or row.media.state == MediaState.STORED
    return has_file and row.next_at is not None and row.next_at <= now


def read_ahead(lanes: Sequence[Lane], now: datetime) -> None:
    """Have each lane know the first due message of some chats, and what follows it there: in order, up to one that is
    not yet due. An account with more than its share of them leaves room to the others at the next look."""
    if not lanes:
        return
    of = {lane.line.account_id: lane for lane in lanes}
    firsts: dict[int, int] = {}  # chat -> its first message
    due = select(Message, f"WHERE account_id IN {places(of)} AND {DUE} ORDER BY next_at, id LIMIT {_FIRSTS}",
                 [*of, *due_at(now)])  # fmt: skip
    for row in due:
        if of[row.account_id].deal(row):
            firsts[row.chat_id] = row.pk
    if not firsts:
        return
    which = f"WHERE chat_id IN {places(firsts)} AND state = 'queued' AND direction = 'out' ORDER BY id"
    following = select(Message, f"{which} LIMIT {_FOLLOWING}", [*firsts])
    _complete([*due, *following])
    for row in following:
        if row.chat_id not in firsts or row.pk <= firsts[row.chat_id] or _is_later(row, now):
            continue
        if not (_is_ready(row, now) and of[row.account_id].deal(row, following=True)):
            del firsts[row.chat_id]


def _complete(rows: list[Message]) -> None:
    """Have with them what sending them takes: their accounts, chats, files and what they are about."""
    for name, model in (("account", Account), ("chat", Chat), ("media", Media), ("target", Message)):
        keys = {key for row in rows if (key := getattr(row, f"{name}_id")) is not None}
        found = {each.pk: each for each in lookup_all(model, id=list(keys))}
        for row in rows:
            if (key := getattr(row, f"{name}_id")) is not None:
                setattr(row, name, found.get(key))


def claim(chosen: list[tuple[Lane, Message]], host: Host, now: datetime) -> list[tuple[Lane, Message]]:
    """Mark these as handed over, one of a lane, while each is still queued and its lease still ours; return those that
    were. In one statement that commits by itself: tell the lanes after it, and then send.
    """
    at = connection.ops.adapt_datetimefield_value(now)
    epochs = {row.pk: lane.line.epoch for lane, row in chosen}
    of_accounts = [value for lane, _row in chosen for value in (lane.line.account_id, lane.line.epoch)]
    words = {"epochs": "WHEN %s THEN %s " * len(chosen), "ids": ", ".join(["%s"] * len(chosen))}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM.format(**words), [*of_accounts, at, at, *epochs, at, host.pk, *of_accounts])
        claimed = set(epochs)
        if cursor.rowcount != len(claimed):
            cursor.execute(_CLAIMED.format(**words), [*epochs, at])
            claimed = {pk for pk, epoch in cursor.fetchall() if epoch == epochs[pk]}
    return [(lane, row) for lane, row in chosen if row.pk in claimed]


def give_back(rows: Sequence[Message], claimed_at: datetime) -> None:
    """Queue those again that were claimed then, if they were: the commit was not confirmed, so nobody sent them."""
    Message.objects.filter(pk__in=[row.pk for row in rows], state=MessageState.SENDING, claimed_at=claimed_at).update(
        state=MessageState.QUEUED, attempts=F("attempts") - 1, claimed_at=None
    )


class Lane:
    """Used by the courier's thread alone, but for `line`."""

    def __init__(self, line: Line, now: datetime) -> None:
        self.line = line
        self.busy: Message | None = None  # on its way; until its outcome is committed
        self.closed = False  # its client is about to be stopped
        self.free_at = now
        self.typed = 0  # the message typing was shown for
        self._deck: deque[Message] = deque()
        self._dice = random.Random()  # noqa: S311 - jitter
        self._pace: Pace = PacingRule.objects.paces([line.account_id])[line.account_id]
        self._past: Past = Message.objects.past(line.account_id, now)

    @property
    def pace(self) -> Pace:
        """Return the limits as of the last look."""
        return self._pace

    def limit(self, pace: Pace, paused_until: datetime | None) -> None:
        """Take the limits as they are now; staff may have changed them."""
        self._pace, self._past.paused_until = pace, paused_until

    def take_back(self) -> None:
        """Sends left behind under an earlier lease: nobody will ever say what came of them."""
        line = self.line
        for row in Message.objects.left_behind(line.account_id, line.epoch).select_related("account", "chat", "media"):
            row.uncertain("host_died", sentence("host_died"))

    def next(self, now: datetime) -> Message | None:
        """Return the message to hand over now, None when there is none or it is not time yet."""
        if not self.is_free(now):
            return None
        while self._deck:
            row = self._deck[0]
            if row.expires_at is not None and row.expires_at <= now:
                self._deck.popleft()
                continue
            local, dice = timezone.localtime(now), self._dice.random()
            when = turn(self._pace, self._past, local, cold=row.chat.is_cold, dice=dice)
            if when.at <= now:
                return row
            if not self._postpone(row, when, now):
                return None
        return None

    def is_free(self, now: datetime) -> bool:
        """Return whether it may hand something over."""
        return self.busy is None and not self.closed and now >= self.free_at

    @property
    def has_read_ahead(self) -> bool:
        """Return whether it knows what comes next without asking the database."""
        return bool(self._deck)

    def deal(self, row: Message, *, following: bool = False) -> bool:
        """Take a message into what it knows; False when it knows enough chats, or enough of one."""
        if len(self._deck) >= (_FOLLOWING if following else _AHEAD):
            return False
        self._deck.append(row)
        return True

    def take(self, row: Message) -> None:
        """Have it no more: somebody tried to claim it."""
        if self._deck and self._deck[0].pk == row.pk:
            self._deck.popleft()

    def claimed(self, row: Message, now: datetime) -> None:
        """It is on its way."""
        row.state, row.epoch, row.claimed_at = MessageState.SENDING, self.line.epoch, now
        row.attempts += 1
        self.busy = row
        self._past.note(now, row.chat.is_cold)

    def settle(self, row: Message, result: Result, now: datetime) -> None:
        """Write down what came of it."""
        if isinstance(result, Sent):
            row.sent(result.id, result.at)
            if row.chat.absent_at is not None:
                Chat.objects.filter(pk=row.chat_id).update(absent_at=None)
        elif isinstance(result, Unknown):
            row.uncertain("outcome_unknown", str(result))
        else:
            self._not_sent(row, result, now)

    def _not_sent(self, row: Message, error: NotSent, now: datetime) -> None:
        verdict = judge(error, row.attempts, row.chat.is_cold, now)
        if verdict.pause_until is not None:
            self._pause(error.number or 0, now, verdict.pause_until)
        if error.code == "not_on_whatsapp":
            Chat.objects.filter(pk=row.chat_id).update(absent_at=now)
        if verdict.what is Next.RETRY:
            row.retry(verdict.at, verdict.code, verdict.sentence)
            self._deck = deque(other for other in self._deck if other.chat_id != row.chat_id)  # they wait for it
        else:
            row.fail(verdict.code, verdict.sentence)

    def _pause(self, code: int, now: datetime, until: datetime) -> None:
        if ContactPause.objects.until(self.line.account_id, now) is None:
            ContactPause.objects.create(account_id=self.line.account_id, code=code, started_at=now, until=until)
        self._past.paused_until = until
        self._deck.clear()

    def _postpone(self, row: Message, when: Turn, now: datetime) -> bool:
        """Wait until `when`: for a while here, for longer on the rows. Return whether another may go before."""
        if (when.at - now).total_seconds() <= _SHOWN:
            self.free_at = when.at
            return False
        waiting = Message.objects.filter(account_id=row.account_id, state=MessageState.QUEUED, next_at__lte=now)
        if when.code != "quiet_hours":  # those to people who wrote to us go on
            waiting = waiting.filter(chat__last_inbound_at=None).exclude(chat__jid__endswith="@g.us")
        pks = list(waiting.values_list("pk", flat=True))
        Message.objects.filter(pk__in=pks, state=MessageState.QUEUED).update(
            next_at=when.at, error_code=when.code, error=sentence(when.code)
        )
        self._deck.clear()
        return False
