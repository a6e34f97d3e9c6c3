"""Webhooks: signed by the specification, in order, tried again, never lost; and what the dispatcher does besides."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from pytest_django.fixtures import Settings  # type: ignore[attr-defined]
from standardwebhooks import Webhook

from accounts.models import Account
from messaging import answering, feeding, fetching, telling, webhooks
from messaging.ageing import age
from messaging.dispatcher import Dispatcher
from messaging.insistence import PAUSES, judge
from messaging.kinds import Kind
from messaging.models import (
    AutoReply,
    Bulk,
    BulkRecipient,
    BulkState,
    Chat,
    Delivery,
    DeliveryState,
    DispatcherLease,
    Event,
    EventKind,
    Media,
    MediaState,
    Message,
    OnUncertain,
    WebhookEndpoint,
)
from messaging.outgoing import Line
from messaging.states import MessageState
from monitoring.causes import facts
from sessions_app.models import Session
from tests.installation import wait_for
from tests.test_messages import hand_over

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


class Sink:
    """A receiver of webhooks on loopback that remembers what it got, and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status: Callable[[dict[str, Any]], int] = lambda told: 204
        self.files: dict[str, tuple[int, bytes]] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.status(json.loads(body))
                if status < 300:
                    outer.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                status, data = outer.files.get(self.path, (404, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def told(self, path: str = "/") -> list[Any]:
        return [json.loads(body)["data"] for where, _headers, body in self.got if where == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink(settings: Settings) -> Iterator[Sink]:
    settings.ALLOW_PRIVATE_URLS = True
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def account(db: None) -> Account:
    return connected("Front office")


def connected(label: str, **fields: Any) -> Account:
    account = Account.objects.create(label=label, **fields)
    Session.objects.filter(account=account).update(state="connected", store="x")
    return Account.objects.select_related("session").get(pk=account.pk)


def tell(account: Account, n: int) -> Event:
    return Event.append(EventKind.SESSION, account.pk, {"n": n})


def publish() -> None:
    while Event.objects.publish():
        pass
    while webhooks.prepare():
        pass


def deliver_all() -> None:
    """Deliver what is due, in this thread."""
    line = Line(timedelta(seconds=5), webhooks.ANSWER_LIMIT)
    for _ in range(100):
        heads = Delivery.objects.heads(timezone.now())
        if not heads:
            break
        for delivery in heads:
            webhooks.deliver(delivery, line)
    line.close()


@pytest.fixture
def dispatcher(transactional_db: None) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher()
    thread = threading.Thread(target=dispatcher.run)
    thread.start()
    yield dispatcher
    dispatcher.stop()
    thread.join(30)
    assert not thread.is_alive()
    connections.close_all()


# -- when to try again


def test_pauses_grow_and_end_after_a_day() -> None:
    now, pauses = NOW, []
    for attempts in range(1, 100):
        verdict = judge(500, attempts, NOW, now, DAY)
        if verdict.dead:
            break
        assert verdict.next_at is not None
        pauses.append(verdict.next_at - now)
        now = verdict.next_at
    assert pauses == sorted(pauses)
    assert tuple(pauses[: len(PAUSES)]) == PAUSES
    assert DAY - PAUSES[-1] < now - NOW <= DAY


@pytest.mark.parametrize(("code", "fits"), [(200, "delivered"), (204, "delivered"), (299, "delivered"), (410, "gone")])
def test_what_an_answer_means(code: int, fits: str) -> None:
    assert getattr(judge(code, 1, NOW, NOW, DAY), fits)


@pytest.mark.parametrize("code", [None, 301, 302, 400, 401, 404, 429, 500, 503])
def test_every_other_answer_is_tried_again(code: int | None) -> None:
    assert judge(code, 1, NOW, NOW, DAY).next_at == NOW + PAUSES[0]


def test_a_receiver_may_ask_for_patience_but_not_for_ever() -> None:
    assert judge(429, 1, NOW, NOW, DAY, retry_after="90").next_at == NOW + timedelta(seconds=90)
    assert judge(429, 1, NOW, NOW, DAY, retry_after="999999999999").next_at == NOW + timedelta(hours=1)
    assert judge(429, 1, NOW, NOW, DAY, retry_after="soon").next_at == NOW + PAUSES[0]


# -- deliveries


def test_a_delivery_is_signed_as_the_specification_says(account: Account, sink: Sink) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/")
    event = tell(account, 1)
    publish()
    deliver_all()
    _path, headers, body = sink.got[0]
    told = Webhook(endpoint.secret).verify(body, headers)
    assert told["type"] == "session.changed"
    assert told["data"] == {"n": 1}
    assert headers["webhook-id"] == f"evt_{event.pk}"
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.code, delivery.attempts) == (DeliveryState.DELIVERED, 204, 1)


def test_during_rotation_both_secrets_verify_and_the_old_one_ends(account: Account, sink: Sink) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/")
    old, new = endpoint.secret, endpoint.rotate()
    tell(account, 1)
    publish()
    deliver_all()
    _path, headers, body = sink.got[0]
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers)
    assert endpoint.signing_secrets(timezone.now() + DAY) == [new]


def test_the_secret_is_not_in_the_database_as_it_is(account: Account) -> None:
    from django.db import connection

    endpoint = WebhookEndpoint.objects.create(url="https://example.org/")
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM messaging_webhookendpoint")
        stored = cursor.fetchone()[0]
    assert endpoint.secret.startswith("whsec_")
    assert endpoint.secret not in stored


def test_an_endpoint_gets_its_account_and_kinds_from_its_beginning_on(account: Account, sink: Sink) -> None:
    other = connected("Other")
    tell(account, 0)
    WebhookEndpoint.objects.create(url=f"{sink.url}/one", account=account)
    WebhookEndpoint.objects.create(url=f"{sink.url}/all")
    WebhookEndpoint.objects.create(url=f"{sink.url}/some", events=["message.sent"])
    tell(account, 1)
    tell(other, 2)
    publish()
    deliver_all()
    assert sink.told("/one") == [{"n": 1}]
    assert sink.told("/all") == [{"n": 1}, {"n": 2}]
    assert sink.told("/some") == []


def test_a_failed_delivery_holds_its_account_back_and_no_other(account: Account, sink: Sink) -> None:
    other = connected("Other")
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/")
    down = True
    sink.status = lambda told: 500 if down and told["data"]["n"] == 1 else 200
    for n, whose in enumerate((account, other, account, other), start=1):
        tell(whose, n)
    publish()
    deliver_all()
    assert sink.told() == [{"n": 2}, {"n": 4}]
    first = Delivery.objects.order_by("pk")[0]
    assert (first.state, first.code, "500" in first.error) == (DeliveryState.PENDING, 500, True)
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None  # it answered for the other account since
    down = False
    Delivery.objects.update(next_at=timezone.now())
    deliver_all()
    assert sink.told() == [{"n": 2}, {"n": 4}, {"n": 1}, {"n": 3}]


def test_after_a_day_it_is_given_up_and_the_next_one_goes(account: Account, sink: Sink) -> None:
    WebhookEndpoint.objects.create(url=f"{sink.url}/")
    sink.status = lambda told: 500 if told["data"]["n"] == 1 else 200
    tell(account, 1)
    tell(account, 2)
    publish()
    deliver_all()
    Delivery.objects.filter(attempts=1).update(first_at=timezone.now() - DAY, next_at=timezone.now())
    deliver_all()
    assert sink.told() == [{"n": 2}]
    dead = Delivery.objects.get(state=DeliveryState.DEAD)
    sink.status = lambda told: 200
    dead.again()
    deliver_all()
    assert sink.told() == [{"n": 2}, {"n": 1}]
    assert sink.got[1][1]["webhook-id"] == f"evt_{dead.event_id}"


def test_an_endpoint_that_fails_for_long_or_is_gone_is_disabled_and_keeps_what_waits(
    account: Account, sink: Sink, settings: Settings
) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/")
    sink.status = lambda told: 500
    tell(account, 1)
    publish()
    deliver_all()
    WebhookEndpoint.objects.update(failing_since=timezone.now() - settings.WEBHOOK_DISABLE_AFTER)
    Delivery.objects.update(next_at=timezone.now())
    deliver_all()
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    assert "3 days" in endpoint.disabled_reason
    assert [fact.label for fact in facts(timezone.now()) if fact.cause == "webhook_disabled"] == [str(endpoint)]
    tell(account, 2)
    publish()
    sink.status = lambda told: 200
    Delivery.objects.update(next_at=timezone.now())
    deliver_all()
    assert sink.told() == []
    endpoint.enable()
    deliver_all()
    assert sink.told() == [{"n": 1}, {"n": 2}]
    endpoint.switch_off("ana")
    assert not [fact for fact in facts(timezone.now()) if fact.cause == "webhook_disabled"]
    endpoint.enable()
    sink.status = lambda told: 410
    tell(account, 3)
    publish()
    deliver_all()
    endpoint.refresh_from_db()
    assert "410" in endpoint.disabled_reason


def test_a_time_range_is_replayed_in_order_with_the_same_ids(account: Account, sink: Sink) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/")
    events = [tell(account, n) for n in range(3)]
    publish()
    deliver_all()
    assert endpoint.replay(Event.objects.filter(at__gte=events[1].at)) == 2
    deliver_all()
    ids = [headers["webhook-id"] for _path, headers, _body in sink.got]
    assert ids == [f"evt_{event.pk}" for event in (*events, *events[1:])]


def test_a_test_event_goes_to_one_endpoint_alone(account: Account, sink: Sink) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/a", events=["message.sent"])
    WebhookEndpoint.objects.create(url=f"{sink.url}/b")
    endpoint.send_test()
    publish()
    deliver_all()
    assert [path for path, _headers, _body in sink.got] == ["/a"]


def test_a_private_address_is_not_called_whatever_was_stored(account: Account, sink: Sink, settings: Settings) -> None:
    WebhookEndpoint.objects.create(url=sink.url.replace("http:", "https:"))
    settings.ALLOW_PRIVATE_URLS = False
    tell(account, 1)
    publish()
    deliver_all()
    delivery = Delivery.objects.get()
    assert delivery.state == DeliveryState.PENDING
    assert "private" in delivery.error
    assert sink.got == []


# -- the dispatcher


@pytest.mark.django_db(transaction=True)
def test_nothing_is_missing_and_all_is_in_order_after_an_endpoint_was_down(dispatcher: Dispatcher, sink: Sink) -> None:
    accounts = [connected(label) for label in "abc"]
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/", events=["message.sent"])
    down = threading.Event()
    down.set()
    sink.status = lambda told: 503 if down.is_set() else 200

    def tell_all(numbers: range) -> None:
        for n in numbers:
            for account in accounts:
                Event.append(EventKind.SENT, account.pk, {"n": n, "account": account.label})

    tell_all(range(20))
    wait_for(lambda: Delivery.objects.filter(attempts__gte=1).count() >= 3)
    down.clear()
    tell_all(range(20, 40))
    Delivery.objects.filter(attempts__gte=1).update(next_at=timezone.now())
    wait_for(lambda: len(sink.got) >= 120, but=lambda: len(sink.got))
    time.sleep(0.2)
    for account in accounts:
        mine = [told["n"] for told in sink.told() if told["account"] == account.label]
        assert mine == list(range(40))
    assert all(Webhook(endpoint.secret).verify(body, headers) for _path, headers, body in sink.got)


@pytest.mark.django_db
def test_of_two_dispatchers_one_works() -> None:
    now = timezone.now()
    assert DispatcherLease.hold("one", now)
    assert not DispatcherLease.hold("two", now)
    assert DispatcherLease.hold("one", now + MINUTE)
    assert DispatcherLease.hold("two", now + 2 * MINUTE)
    DispatcherLease.give_back("two")
    assert DispatcherLease.hold("one", now)


@pytest.mark.django_db
def test_one_step_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
    def fail() -> int:
        raise RuntimeError

    monkeypatch.setattr(webhooks, "prepare", fail)
    dispatcher = Dispatcher()
    telling.tell_sessions()
    assert dispatcher.turn()
    assert Event.objects.get().position is not None


def test_a_change_of_a_session_is_told_once(account: Account) -> None:
    assert telling.tell_sessions()
    assert not telling.tell_sessions()
    Session.objects.update(state="banned")
    assert telling.tell_sessions()
    assert [event.body["state"] for event in Event.objects.order_by("pk")] == ["connected", "banned"]


# -- files by address


def wanted(account: Account, url: str) -> Message:
    media = Media.objects.create(state=MediaState.WANTED, url=url, kind=Kind.IMAGE, mime="", next_at=timezone.now())
    return Message.queue(Chat.objects.of(account, "6281200000001@s.whatsapp.net"), Kind.IMAGE, {}, media=media)


def test_a_file_is_fetched_checked_and_then_the_message_may_go(account: Account, sink: Sink) -> None:
    sink.files["/a.png"] = (200, PNG)
    message = wanted(account, f"{sink.url}/a.png")
    assert message.media is not None
    fetching.fetch(message.media)
    assert list(Message.objects.due(timezone.now())) == [message]
    assert (message.media.read(), message.media.mime) == (PNG, "image/png")


@pytest.mark.parametrize(
    ("data", "code"), [(b"<html>", "media_type"), (b"", "media_empty"), (b"x" * 2000, "media_too_large")]
)
def test_a_file_that_is_not_what_was_said_fails_its_message_at_once(
    account: Account, sink: Sink, settings: Settings, data: bytes, code: str
) -> None:
    settings.MEDIA_MAX_BYTES = 1000
    sink.files["/a.png"] = (200, data)
    message = wanted(account, f"{sink.url}/a.png")
    assert message.media is not None
    fetching.fetch(message.media)
    message.refresh_from_db()
    assert (message.state, message.error_code) == (MessageState.FAILED, code)


def test_a_file_that_cannot_be_had_is_tried_four_times_and_holds_up_no_other_chat(account: Account, sink: Sink) -> None:
    message = wanted(account, f"{sink.url}/missing.png")
    other = Message.queue(Chat.objects.of(account, "6281200000002@s.whatsapp.net"), Kind.TEXT, {"text": "a"})
    assert message.media is not None
    for _ in range(4):
        message.refresh_from_db()
        assert message.state == MessageState.QUEUED
        assert list(Message.objects.due(timezone.now())) == [other]
        fetching.fetch(message.media)
    message.refresh_from_db()
    assert (message.state, message.error_code) == (MessageState.FAILED, "media_fetch_failed")
    assert "404" in message.error


# -- automatic replies


def arrive(account: Account, text: str, phone: str = "6281200000001", **more: Any) -> None:
    chat = Chat.objects.of(account, more.pop("jid", f"{phone}@s.whatsapp.net"))
    Message.receive(chat, f"A{Message.objects.count()}", more.pop("kind", Kind.TEXT), {"text": text},
                    more.pop("at", timezone.now()), **more)  # fmt: skip
    publish()
    answering.answer(timezone.now())


def replies() -> list[str]:
    return list(Message.objects.filter(state=MessageState.QUEUED).order_by("pk").values_list("text", flat=True))


def test_a_keyword_is_answered_once_a_minute_per_chat(account: Account) -> None:
    rule = AutoReply.objects.create(account=account, keyword="price", reply="10 each", enabled=True)
    arrive(account, "What is the price?")
    arrive(account, "PRICE please")
    arrive(account, "hello")
    assert replies() == ["10 each"]
    arrive(account, "price", phone="6281200000002")
    assert replies() == ["10 each"] * 2
    from messaging.models import AutoReplySent

    AutoReplySent.objects.update(at=timezone.now() - AutoReply.COOLDOWN)
    arrive(account, "price")
    assert replies() == ["10 each"] * 3
    AutoReply.objects.filter(pk=rule.pk).update(enabled=False)
    arrive(account, "price", phone="6281200000003")
    assert len(replies()) == 3


def test_rules_are_off_unless_switched_on(account: Account) -> None:
    AutoReply.objects.create(account=account, keyword="price", reply="10 each")
    arrive(account, "price")
    assert replies() == []


def test_two_of_our_accounts_cannot_answer_each_other_for_ever(account: Account) -> None:
    connected("Other", phone="6281200000009")
    AutoReply.objects.create(account=account, keyword="hi", reply="hi", enabled=True)
    arrive(account, "hi", phone="6281200000009")
    arrive(account, "hi", jid="123456@g.us")
    arrive(account, "hi", at=timezone.now() - timedelta(hours=1))
    arrive(account, "hi", from_me=True)
    assert replies() == []


# -- bulk sends


def bulk(account: Account, count: int, text: str = "{Hi|Hello} {{name}}") -> Bulk:
    bulk = Bulk.objects.create(account=account, name="News", content={"text": text})
    BulkRecipient.objects.bulk_create(
        BulkRecipient(bulk=bulk, phone=f"62812000{n:05}", variables={"name": f"No. {n}"}) for n in range(count)
    )
    return bulk


def feed() -> None:
    while feeding.feed(timezone.now()):
        pass


def send_queued(limit: int = 1000) -> None:
    for message in Message.objects.filter(state=MessageState.QUEUED)[:limit]:
        hand_over(message)
        message.sent(f"3EB{message.pk}", timezone.now())


def test_a_bulk_send_goes_out_a_few_at_a_time_each_to_its_person(account: Account) -> None:
    sending = bulk(account, 45)
    feed()
    assert sending.progress() == {"total": 45, "queued": feeding.AHEAD, "waiting": 45 - feeding.AHEAD}
    send_queued()
    feed()
    send_queued()
    feed()
    send_queued()
    feed()
    sending.refresh_from_db()
    assert (sending.state, sending.progress()) == (BulkState.DONE, {"total": 45, "sent": 45})
    texts = set(Message.objects.values_list("text", flat=True))
    assert len(texts) == 45
    assert all(text.split(" ", 1)[0] in ("Hi", "Hello") for text in texts)


def test_a_bulk_send_is_paused_resumed_and_cancelled(account: Account) -> None:
    sending = bulk(account, 30)
    feed()
    assert sending.pause()
    assert not sending.pause()
    send_queued()
    feed()
    assert sending.progress() == {"total": 30, "sent": 20, "waiting": 10}
    assert sending.resume()
    feed()
    assert sending.cancel("me")
    feed()
    assert sending.progress() == {"total": 30, "sent": 20, "cancelled": 10}


def test_one_wrong_recipient_does_not_stop_the_others(account: Account) -> None:
    sending = bulk(account, 3)
    sending.recipients.filter(phone="6281200000001").update(variables={})
    Chat.objects.of(account, "6281200000002@s.whatsapp.net")
    Chat.objects.update(absent_at=timezone.now())
    feed()
    assert sending.progress() == {"total": 3, "queued": 1, "refused": 2}
    errors = dict(sending.recipients.values_list("phone", "error"))
    assert "“name”" in errors["6281200000001"]
    assert "WhatsApp" in errors["6281200000002"]


def test_a_bulk_send_waits_while_its_account_cannot_send(account: Account) -> None:
    sending = bulk(account, 3)
    Session.objects.update(state="banned")
    feed()
    assert sending.progress() == {"total": 3, "waiting": 3}
    Session.objects.update(state="connected")
    feed()
    assert sending.progress() == {"total": 3, "queued": 3}


# -- what time does


def test_expired_messages_fail_and_chosen_uncertain_ones_are_repeated(account: Account) -> None:
    chat, now = Chat.objects.of(account, "6281200000001@s.whatsapp.net"), timezone.now()
    late = Message.queue(chat, Kind.TEXT, {"text": "a"}, expires_at=now)
    unsure = Message.queue(chat, Kind.TEXT, {"text": "b"}, on_uncertain=OnUncertain.RESEND)
    Message.objects.filter(pk=unsure.pk).update(state=MessageState.UNCERTAIN, changed_at=now - 2 * MINUTE)
    assert age(now)
    assert not age(now)
    late.refresh_from_db()
    unsure.refresh_from_db()
    assert (late.state, late.error_code) == (MessageState.FAILED, "expired")
    assert unsure.state == MessageState.QUEUED
