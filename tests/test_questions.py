"""What loops ask the database all day: the answer is no only while there is nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Account
from accounts.poll import ask
from messaging import telling
from messaging.answering import answer
from messaging.courier import courier
from messaging.dispatcher import Dispatcher
from messaging.kinds import Kind
from messaging.models import (
    Ask,
    Bulk,
    Chat,
    Delivery,
    Event,
    EventKind,
    HostRequest,
    Media,
    MediaState,
    Message,
    WebhookEndpoint,
)
from messaging.states import MessageState
from sessions_app.host import host as session_host
from sessions_app.models import Host, Session

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def account() -> Account:
    return Account.objects.create(label="Front office", phone="6281200000001")


def wanted() -> set[str]:
    """Return the names of the dispatcher's steps that the database says have something to do."""
    steps = Dispatcher()._steps
    answers = ask("SELECT " + ", ".join(f"EXISTS({step.question})" for step in steps))
    return {step.name for step, there in zip(steps, answers, strict=True) if there}


def at_rest(account: Account) -> None:
    """Have everything told, published and read."""
    telling.tell_sessions()
    Event.objects.publish()
    while answer(timezone.now()):
        pass
    assert wanted() == set()


def queue(account: Account, send_at: datetime | None = None) -> None:
    Message.queue(Chat.objects.of(account.pk, "6281200000002@s.whatsapp.net"), Kind.TEXT, {"text": "x"},
                  send_at=send_at)  # fmt: skip


def a_session_changes(account: Account) -> None:
    Session.objects.filter(account=account).update(state="banned")


def an_event_is_told(account: Account) -> None:
    Event.append(EventKind.TEST, account.pk, {})


def an_event_is_published(account: Account) -> None:
    WebhookEndpoint.objects.create(url="https://example.org/")
    an_event_is_told(account)
    Event.objects.publish()


def a_delivery_is_due(account: Account) -> None:
    endpoint = WebhookEndpoint.objects.create(url="https://example.org/", position=10**6)
    Delivery.objects.create(endpoint=endpoint, event=Event.objects.order_by("pk")[0], next_at=timezone.now())


def a_file_is_wanted(account: Account) -> None:
    Media.objects.create(kind=Kind.IMAGE, state=MediaState.WANTED, url="https://example.org/x.png",
                         next_at=timezone.now())  # fmt: skip


def a_bulk_send_runs(account: Account) -> None:
    Bulk.objects.create(account=account, name="x", kind=Kind.TEXT, content={}, send_at=timezone.now())


def a_message_waits(account: Account) -> None:
    queue(account)


def a_message_is_uncertain(account: Account) -> None:
    queue(account)
    Message.objects.update(state=MessageState.UNCERTAIN)


@pytest.mark.parametrize(
    ("happens", "steps"),
    [
        (a_session_changes, {"tell"}), (an_event_is_told, {"publish"}), (an_event_is_published, {"answer", "prepare"}),
        (a_delivery_is_due, {"deliver"}), (a_file_is_wanted, {"fetch"}), (a_bulk_send_runs, {"feed"}),
        (a_message_waits, {"age"}), (a_message_is_uncertain, {"age"}),
    ],
)  # fmt: skip
def test_the_dispatcher_is_told_what_to_do(
    account: Account, happens: Callable[[Account], None], steps: set[str]
) -> None:
    at_rest(account)
    happens(account)
    assert wanted() == steps


def test_the_courier_is_told_what_to_send_once_it_is_time(account: Account) -> None:
    now = timezone.now()
    assert ask(courier._QUESTION) == (0, 0, 0)
    queue(account, send_at=now + timedelta(hours=1))
    HostRequest.put(account, Ask.GROUPS, {}, -SECOND)
    assert ask(courier._QUESTION) == (0, 0, 1)
    queue(account)
    assert ask(courier._QUESTION) == (0, 1, 1)
    HostRequest.put(account, Ask.GROUPS, {}, timedelta(minutes=1))
    assert ask(courier._QUESTION) == (1, 1, 1)


def test_a_host_is_told_what_changes_with_its_sessions(account: Account) -> None:
    host, other = (Host.objects.create(name=name) for name in ("a", "b"))
    rows = Session.objects.filter(account=account)

    def told() -> tuple[object, ...]:
        return tuple(int(each or 0) for each in ask(session_host._QUESTION, host=host.pk))

    now = timezone.now()
    assert told() == (0, 0, 0, 0, 0, 0)
    rows.update(due_at=now + timedelta(hours=1))
    assert told() == (0, 0, 0, 0, 0, 0)
    rows.update(due_at=now)
    assert told() == (0, 1, 0, 0, 0, 0)
    rows.update(host=other, lease_expires_at=now + timedelta(hours=1))
    account.session.request_start("ana")
    assert told() == (0, 0, 0, 0, 0, 0)
    rows.update(host=host, version=7, due_at=None)
    assert told() == (0, 0, 1, 7, 0, 1)
    rows.update(version=8, due_at=now)
    assert told() == (0, 0, 1, 8, 1, 1)
    rows.update(lease_expires_at=now - SECOND)
    assert told()[0] == 1


def test_a_host_is_told_what_shares_and_wishes_of_staff_depend_on(account: Account) -> None:
    host = Host.objects.create(name="a", heartbeat_at=timezone.now(), capacity=5)
    rows = Session.objects.filter(account=account)
    seen: list[tuple[object, ...]] = []

    def changed() -> bool:
        seen.append(ask(session_host._FLEET, fresh=timezone.now() - 30 * SECOND))
        return len(seen) < 2 or seen[-1] != seen[-2]

    changed()
    Host.objects.update(rss=7, heartbeat_at=timezone.now())
    assert not changed()
    other = Host.objects.create(name="b", heartbeat_at=timezone.now() - 40 * SECOND)
    assert not changed()
    Host.objects.filter(pk=other.pk).update(heartbeat_at=timezone.now())
    assert changed()
    for fields in ({"capacity": 6}, {"draining": True}, {"restart_requested_at": timezone.now()}):
        Host.objects.filter(pk=host.pk).update(**fields)
        assert changed(), fields
    Host.objects.filter(pk=host.pk).update(draining=False)
    Host.objects.filter(pk=other.pk).update(draining=True)
    assert changed()
    rows.update(due_at=timezone.now() - SECOND)
    assert changed()
    rows.update(host=host, due_at=None)
    assert changed()
    Host.objects.filter(pk=other.pk).update(ended_at=timezone.now())
    assert changed()
