"""Statements composed once (accounts.lookup, accounts.change) say what Django's say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from accounts.change import change, change_each, insert, insert_all
from accounts.lookup import lookup, lookup_all, lookup_any, select_joined
from accounts.models import Account
from messaging.kinds import Kind
from messaging.models import AutoReply, Chat, Message
from messaging.states import MessageState
from sessions_app.models import Session

pytestmark = pytest.mark.django_db


@pytest.fixture
def messages() -> list[Message]:
    """Three, with a time, JSON and text of every alphabet."""
    account = Account.objects.create(label="Kantor", phone="6281200000001", important=True)
    chat = Chat.objects.of(account.pk, "6281200000002@s.whatsapp.net", name="Budi")
    return [
        Message.queue(chat, Kind.TEXT, {"text": f"Halo {n} 👋 'x' %s", "mentions": ["1"]},
                      expires_at=timezone.now() + timedelta(hours=n))
        for n in range(3)
    ]  # fmt: skip


def values(row: models.Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.parametrize("model", [Message, Chat, Account, Session])
def test_a_row_is_what_django_makes_of_it(messages: list[Message], model: type[models.Model]) -> None:
    wanted = model._default_manager.order_by("pk").first()
    assert wanted is not None
    found = lookup(model, id=wanted.pk)
    assert found is not None
    assert values(found) == values(wanted)
    assert not found._state.adding
    found.save()  # as any other


def test_what_is_not_named_is_loaded_when_asked_for(messages: list[Message], django_assert_num_queries: Any) -> None:
    which = "FROM messaging_message WHERE id = %s"
    [(found,)] = select_joined({Message: ("id", "kind")}, which, [messages[0].pk])
    assert isinstance(found, Message)
    assert found.get_deferred_fields() >= {"text", "content"}
    with django_assert_num_queries(1):
        assert found.text == messages[0].text


def test_any_of_several_and_none_of_nothing(messages: list[Message], django_assert_num_queries: Any) -> None:
    first, _second, third = messages
    assert lookup_all(Message, id=[third.pk, first.pk, 10**9]) == [first, third]
    assert lookup_all(Message, id=[first.pk, third.pk], chat_id=[first.chat_id + 1]) == []
    with django_assert_num_queries(0):
        assert lookup_all(Message, id=[]) == []
    with django_assert_num_queries(1):
        assert lookup_any(Message, {"id": [third.pk]}, {"id": []}, {"id": [first.pk, third.pk]}) == [first, third]
    assert lookup(Message, id=10**9) is None


def test_a_change_is_written_as_django_writes_it_and_only_where_it_fits(messages: list[Message]) -> None:
    first, second, _third = messages
    at = timezone.now().replace(microsecond=123456)
    new: dict[str, Any] = {"state": MessageState.SENT, "sent_at": at, "whatsapp_id": None, "error": "%s 'ä' 👋",
                           "content": {"text": "ja", "n": [1, None]}}  # fmt: skip
    assert change(Message, new, id=first.pk, state=["queued", "sending"]) == 1
    assert change(Message, new, id=first.pk, state=["queued", "sending"]) == 0
    Message.objects.filter(pk=second.pk).update(**new)
    ours, djangos = (Message.objects.get(pk=row.pk) for row in (first, second))
    assert {name: getattr(ours, name) for name in new} == {name: getattr(djangos, name) for name in new} == new
    # The same values once more: the row counts though nothing changes.
    assert change(Message, {"state": MessageState.SENT}, id=first.pk, state="sent") == 1


def test_rows_are_changed_together_each_as_django_writes_it(
    messages: list[Message], django_assert_num_queries: Any
) -> None:
    at = timezone.now().replace(microsecond=123456)
    new: dict[int, dict[str, Any]] = {
        row.pk: {"state": MessageState.SENT, "sent_at": at + timedelta(seconds=n) if n else None, "next_at": None,
                 "error": f"%s '{n}' 👋", "content": {"text": "ja", "n": [n, None]}} for n, row in enumerate(messages)
    }  # fmt: skip
    with django_assert_num_queries(1):
        assert change_each(Message, new, state=["queued", "sending"]) == 3
    found = Message.objects.in_bulk()
    assert {pk: {name: getattr(found[pk], name) for name in values} for pk, values in new.items()} == new
    Message.objects.filter(pk=messages[0].pk).update(state="queued")
    assert change_each(Message, {pk: {"state": "sent", "error": ""} for pk in new}, state=["queued"]) == 1
    assert [row.error for row in Message.objects.order_by("pk")][1:] == [new[row.pk]["error"] for row in messages[1:]]


def test_a_column_nobody_has_is_refused(messages: list[Message]) -> None:
    with pytest.raises(KeyError):
        change(Message, {"colour": "red"}, id=messages[0].pk)


def test_a_row_is_stored_as_django_stores_it(messages: list[Message]) -> None:
    wanted = values(messages[0]) | {"whatsapp_id": "3EB0X"}
    own = insert(Message(**{**wanted, "id": None}))
    djangos = Message(**{**wanted, "id": None, "whatsapp_id": "3EB0Y"})
    djangos.save()
    assert own.pk
    assert not own._state.adding
    ours, theirs = (values(Message.objects.get(pk=row.pk)) for row in (own, djangos))
    assert ours | {"id": 0, "whatsapp_id": ""} == theirs | {"id": 0, "whatsapp_id": ""}
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(Message(**{**wanted, "id": None}))
    more = [Message(**{**wanted, "id": None, "whatsapp_id": f"3EB0Z{n}"}) for n in range(3)]
    insert_all(more)
    for row in more:
        stored = values(Message.objects.get(whatsapp_id=row.whatsapp_id))
        assert stored | {"id": 0, "whatsapp_id": ""} == theirs | {"id": 0, "whatsapp_id": ""}
    insert_all([])
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_all([Message(**{**wanted, "id": None, "whatsapp_id": "new"}), Message(**{**wanted, "id": None})])


def test_a_column_may_be_named_by_a_word_of_sql(messages: list[Message]) -> None:
    stored = insert(AutoReply(account_id=messages[0].account_id, match="word", keyword="harga", reply="x"))
    assert change(AutoReply, {"match": "exact"}, id=stored.pk) == 1
    assert [row.match for row in lookup_all(AutoReply, id=[stored.pk])] == ["exact"]


def test_rows_that_belong_together_are_found_in_one_question(
    messages: list[Message], django_assert_num_queries: Any
) -> None:
    chat, alone = messages[0].chat, Account.objects.create(label="Gudang")
    which = ("FROM accounts_account LEFT JOIN messaging_chat ON messaging_chat.account_id = accounts_account.id "
             "ORDER BY accounts_account.id")  # fmt: skip
    with django_assert_num_queries(1):
        found = select_joined({Account: ("id", "label"), Chat: ()}, which, [])
    first, none = found
    assert (first[0], first[1], none) == (chat.account, chat, (alone, None))
    assert first[1] is not None
    assert values(first[1]) == values(Chat.objects.get())
    assert isinstance(first[0], Account)
    assert first[0].phone == "6281200000001"  # what is not named is loaded when asked for
