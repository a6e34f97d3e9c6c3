"""Messages as rows: their states, the order in a chat, what is told of them, and a cursor that skips nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from messaging.kinds import Kind
from messaging.models import Chat, Event, EventKind, Media, MediaState, Message, OnUncertain
from messaging.models.chat import NOTES
from messaging.models.event import EVENTS
from messaging.models.media import unused
from messaging.models.message import CHANGES, OvertakenError
from messaging.states import FOLLOWING, MessageState, before

pytestmark = pytest.mark.django_db

S = MessageState
MINUTE = timedelta(minutes=1)


@pytest.fixture
def account() -> Account:
    return Account.objects.create(label="Front office")


@pytest.fixture
def chat(account: Account) -> Chat:
    return Chat.objects.of(account, "6281200000001@s.whatsapp.net")


def queue(chat: Chat, text: str = "hello", **more: object) -> Message:
    return Message.queue(chat, Kind.TEXT, {"text": text}, **more)  # type: ignore[arg-type]


def hand_over(message: Message, epoch: int = 1) -> None:
    """Have it on its way, as after the courier's claim."""
    Message.objects.filter(pk=message.pk).update(state=S.SENDING, epoch=epoch, claimed_at=timezone.now())


def due(now: datetime | None = None) -> list[str]:
    return [message.text for message in Message.objects.due(now or timezone.now())]


def told() -> list[str]:
    Event.objects.publish()
    return list(Event.objects.after(0).values_list("kind", flat=True))


# -- states


def test_the_table_of_states_is_complete() -> None:
    assert set(FOLLOWING) == set(S)
    reached = set().union(*FOLLOWING.values())
    assert reached == set(S) - {S.RECEIVED}


@pytest.mark.parametrize("state", list(S))
def test_a_change_that_the_table_does_not_allow_changes_nothing(chat: Chat, state: MessageState) -> None:
    verbs: dict[MessageState, Callable[[Message], bool]] = {
        S.SENT: lambda m: m.sent("ABC", timezone.now()), S.DELIVERED: lambda m: m.delivered(timezone.now()),
        S.READ: lambda m: m.read(timezone.now()), S.FAILED: lambda m: m.fail("x", "y"),
        S.UNCERTAIN: lambda m: m.uncertain("x", "y"), S.CANCELLED: lambda m: m.cancel("me"),
    }  # fmt: skip
    for target, verb in verbs.items():
        message = queue(chat)
        Message.objects.filter(pk=message.pk).update(state=state)
        allowed = state in before(target)
        assert verb(message) is allowed
        message.refresh_from_db()
        assert message.state == (target if allowed else state)
        Message.objects.all().delete()


def test_a_message_goes_its_way_and_each_step_is_told_once(chat: Chat) -> None:
    message, now = queue(chat), timezone.now()
    hand_over(message, 3)
    assert message.sent("3EB0", now)
    assert message.delivered(now)
    assert not message.delivered(now)
    assert message.read(now)
    assert told() == ["message.sent", "message.delivered", "message.read"]
    body = Event.objects.after(0)[0].body
    assert (body["id"], body["state"], body["whatsapp_id"]) == (message.pk, "sent", "3EB0")
    assert body["chat"]["phone"] == "+6281200000001"


def test_a_message_in_flight_when_its_host_died_is_left_behind_and_never_due_again(chat: Chat) -> None:
    message = queue(chat)
    hand_over(message, 3)
    assert list(Message.objects.left_behind(chat.account_id, 3)) == []
    assert list(Message.objects.left_behind(chat.account_id, 4)) == [message]
    assert message.uncertain("host_died", "The host died.")
    assert due() == []


def test_a_late_receipt_resolves_an_uncertain_message(chat: Chat) -> None:
    message = queue(chat)
    hand_over(message)
    message.uncertain("timeout", "No answer.")
    assert list(Message.objects.uncertain_in(chat)) == [message]
    assert message.delivered(timezone.now(), whatsapp_id="3EB0")
    message.refresh_from_db()
    assert (message.state, message.whatsapp_id, message.error_code) == (S.DELIVERED, "3EB0", "")


def test_only_a_choice_made_beforehand_sends_an_uncertain_message_again(chat: Chat) -> None:
    held, repeated = queue(chat), queue(chat, on_uncertain=OnUncertain.RESEND)
    for message in (held, repeated):
        Message.objects.filter(pk=message.pk).update(state=S.SENDING)
        message.uncertain("timeout", "No answer.")
    assert list(Message.objects.to_resend(timezone.now())) == []
    assert list(Message.objects.to_resend(timezone.now() + MINUTE)) == [repeated]
    assert held.resend("a person")
    held.refresh_from_db()
    assert (held.state, held.attempts, held.queued_by) == (S.QUEUED, 0, "a person")


# -- order


def test_the_first_unfinished_message_of_each_chat_is_due(account: Account, chat: Chat) -> None:
    other = Chat.objects.of(account, "6281200000002@s.whatsapp.net")
    first, _second, _third = queue(chat, "1"), queue(chat, "2"), queue(other, "3")
    assert due() == ["1", "3"]
    hand_over(first)
    assert due() == ["3"]
    first.retry(timezone.now() + MINUTE, "offline", "Not connected.")
    assert due() == ["3"]
    assert due(timezone.now() + 2 * MINUTE) == ["3", "1"]  # the longest due first
    first.fail("gone", "Gone.")
    assert due() == ["2", "3"]


def test_what_is_scheduled_or_expired_does_not_hold_up_its_chat(chat: Chat) -> None:
    now = timezone.now()
    queue(chat, "later", send_at=now + MINUTE)
    queue(chat, "too late", expires_at=now)
    assert [m.text for m in Message.objects.expired(now)] == ["too late"]
    Message.objects.expired(now)[0].fail("expired", "Expired.")
    queue(chat, "now")
    assert due() == ["now"]
    assert due(now + MINUTE) == ["later"]


def test_a_message_waits_for_its_media_and_keeps_its_place(chat: Chat) -> None:
    media = Media.objects.create(mime="image/png", state=MediaState.WANTED, url="https://example.org/a.png")
    Message.queue(chat, Kind.IMAGE, {"caption": "picture"}, media=media)
    queue(chat, "after")
    assert due() == []
    media.fetched(b"bytes", "image/png")
    assert due() == ["picture"]
    assert media.read() == b"bytes"


def test_equal_bytes_are_kept_once_and_what_nobody_refers_to_is_found(chat: Chat) -> None:
    one, two = Media.store(b"same", "text/plain"), Media.store(b"same", "text/plain")
    assert one.file == two.file
    Message.queue(chat, Kind.DOCUMENT, {"filename": "a"}, media=one)
    assert list(unused(timezone.now() + MINUTE)) == [two]


# -- chats and what arrives


def test_a_person_is_one_chat_by_number_or_lid(account: Account) -> None:
    chat = Chat.objects.of(account, "6281200000001@s.whatsapp.net")
    assert Chat.objects.of(account, "777@lid", number="6281200000001", name="Siti") == chat
    assert Chat.objects.of(account, "777@lid") == chat
    chat.refresh_from_db()
    assert (chat.phone, chat.lid, chat.name, chat.is_cold) == ("6281200000001", "777", "Siti", True)
    group = Chat.objects.of(account, "123@g.us", name="Team")
    assert (group.is_group, group.phone, group.is_cold) == (True, "", False)


def test_an_inbound_message_is_stored_once_and_warms_the_chat(chat: Chat) -> None:
    now = timezone.now()
    Message.receive(chat, "A1", Kind.TEXT, {"text": "hi"}, now, sender_phone="6281200000001")
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.receive(chat, "A1", Kind.TEXT, {"text": "hi"}, now)
    chat.refresh_from_db()
    assert not chat.is_cold
    assert told() == ["message.received"]


def test_edits_keep_the_words_before_and_revokes_mark_their_target(chat: Chat) -> None:
    now = timezone.now()
    original = Message.receive(chat, "A1", Kind.TEXT, {"text": "helo"}, now)
    Message.receive(chat, "A2", Kind.EDIT, {"text": "hello"}, now, target=original)
    Message.receive(chat, "A3", Kind.REVOKE, {}, now, target=original)
    original.refresh_from_db()
    assert (original.text, original.content["before"]) == ("hello", ["helo"])
    assert original.revoked_at == now
    assert told() == ["message.received", "message.edited", "message.revoked"]


# -- the stream


def test_a_rolled_back_change_is_not_told(chat: Chat) -> None:
    message = queue(chat)

    def change_and_fail() -> None:
        with transaction.atomic():
            message.cancel("me")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_and_fail()
    assert told() == []


def test_what_becomes_of_messages_is_written_together_in_their_order(
    chat: Chat, django_assert_num_queries: Any
) -> None:
    now, rows = timezone.now(), [queue(chat, f"letter {n}") for n in range(4)]
    for row in rows:
        hand_over(row)
        row.state = S.SENDING
    with transaction.atomic(), EVENTS.together(), NOTES.together(), django_assert_num_queries(5), CHANGES.together():
        rows[3].read(now)
        rows[0].sent("3EB0A", now)
        rows[1].sent("3EB0B", now + MINUTE)
        rows[0].delivered(now + MINUTE)
        assert rows[0].read(now + 2 * MINUTE)
        assert not rows[0].delivered(now + 3 * MINUTE)  # it is read already, though the database does not know
        rows[2].delivered(now)
    assert told() == [f"message.{kind}" for kind in ("read", "sent", "sent", "delivered", "read", "delivered")]
    stored = [Message.objects.get(pk=row.pk) for row in rows]
    assert [(row.state, row.whatsapp_id, row.sent_at, row.delivered_at, row.read_at) for row in stored] == [
        ("read", "3EB0A", now, now + MINUTE, now + 2 * MINUTE), ("sent", "3EB0B", now + MINUTE, None, None),
        ("delivered", None, now, now, None), ("read", None, now, now, now),
    ]  # fmt: skip


def test_what_was_overtaken_is_not_written_together(chat: Chat) -> None:
    now, rows = timezone.now(), [queue(chat, f"letter {n}") for n in range(2)]
    for row in rows:
        hand_over(row)
        row.state = S.SENDING
    Message.objects.filter(pk=rows[1].pk).update(state=S.FAILED)

    def write() -> None:
        with transaction.atomic(), EVENTS.together(), NOTES.together(), CHANGES.together():
            rows[0].sent("3EB0A", now)
            rows[1].sent("3EB0B", now)

    with pytest.raises(OvertakenError):
        write()
    assert [row.state for row in Message.objects.order_by("pk")] == ["sending", "failed"]
    assert told() == []


def test_positions_are_given_in_order_without_gaps(account: Account) -> None:
    for n in range(5):
        Event.append(EventKind.SESSION, account.pk, {"n": n})
    assert Event.objects.publish() == 5
    assert Event.objects.publish() == 0
    Event.append(EventKind.SESSION, account.pk, {"n": 5})
    Event.objects.publish()
    rows = [(event.position, event.body["n"]) for event in Event.objects.after(0)]
    first = rows[0][0]
    assert first is not None
    assert rows == [(first + n, n) for n in range(6)]


@pytest.mark.django_db(transaction=True)
def test_a_cursor_does_not_skip_an_event_that_is_committed_late() -> None:
    """Two transactions held open: the lower id is committed after a reader has gone past the higher one."""
    account = Account.objects.create(label="a")
    seen: list[int] = []
    cursor = 0

    def read() -> None:
        nonlocal cursor
        Event.objects.publish()
        for event in Event.objects.after(cursor):
            seen.append(event.body["n"])
            cursor = event.position or 0

    if connection.vendor == "sqlite":
        # One writer at a time: a lower id can appear late only by being given explicitly.
        late = Event(account=account, kind=EventKind.SESSION, body={"n": 1})
        Event.append(EventKind.SESSION, account.pk, {"n": 0})
        held = Event.append(EventKind.SESSION, account.pk, {})
        late.pk = held.pk
        held.delete()
        read()
        Event.append(EventKind.SESSION, account.pk, {"n": 2})
        read()
        late.save(force_insert=True)
        assert late.pk < Event.objects.get(body__n=2).pk
    else:
        inserted, commit = threading.Event(), threading.Event()

        def slow() -> None:
            try:
                with transaction.atomic():
                    Event.append(EventKind.SESSION, account.pk, {"n": 1})
                    inserted.set()
                    commit.wait(20)
            finally:
                connection.close()

        Event.append(EventKind.SESSION, account.pk, {"n": 0})
        thread = threading.Thread(target=slow)
        thread.start()
        assert inserted.wait(20)
        with transaction.atomic():
            Event.append(EventKind.SESSION, account.pk, {"n": 2})
        read()
        commit.set()
        thread.join(20)
    assert seen == [0, 2]
    read()
    assert seen == [0, 2, 1]
    read()
    assert seen == [0, 2, 1]


def test_when_a_chat_last_had_a_message_is_written_at_once_or_with_what_comes_together(
    chat: Chat, django_assert_num_queries: Any
) -> None:
    other, third = (Chat.objects.of(chat.account_id, f"628120000009{n}@s.whatsapp.net") for n in range(2))
    at = [timezone.now() + timedelta(seconds=n) for n in range(4)]

    def noted(*rows: Chat) -> list[tuple[datetime | None, datetime | None]]:
        found = Chat.objects.in_bulk([row.pk for row in rows])
        return [(found[row.pk].last_message_at, found[row.pk].last_inbound_at) for row in rows]

    Chat.note(chat.pk, at[0], inbound=False)
    assert noted(chat) == [(at[0], None)]
    with django_assert_num_queries(2), NOTES.together():
        Chat.note(chat.pk, at[1], inbound=True)
        Chat.note(chat.pk, at[2], inbound=False)  # it stays known when they last wrote
        with NOTES.together():
            Chat.note(other.pk, at[3], inbound=False)
        with contextlib.suppress(ValueError), NOTES.together():
            Chat.note(third.pk, at[3], inbound=True)
            raise ValueError
    assert noted(chat, other, third) == [(at[2], at[1]), (at[3], None), (None, None)]
    Chat.note(chat.pk, at[3], inbound=False)
    assert noted(chat) == [(at[3], at[1])]
