"""The HTTP API: who may call, what is accepted, and a precise refusal for everything else."""

from __future__ import annotations

import base64
import json
import logging
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings  # type: ignore[attr-defined]

from accounts.models import Account, ApiKey, Desired, Scope
from messaging import throttle
from messaging.kinds import Kind
from messaging.models import Ask, Chat, HostRequest, Media, MediaState, Message
from monitoring.models import HealthSample, Incident, Severity
from sessions_app.models import Session, SessionCommand
from tests.test_messages import hand_over

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
TO = "+62 812-0000-0001"


class Caller:
    """A program with a key."""

    def __init__(self, key: str = "") -> None:
        self.key, self._client = key, Client(raise_request_exception=False)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes | str) else json.dumps(body) if body is not None else ""
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        return self._client.generic(method, f"/api/v1{path}", data, content_type="application/json", headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, {} if body is None else body, **headers)

    def send(self, account: Account, **body: Any) -> Any:
        headers = body.pop("headers", {})
        return self.post("/messages", {"account_id": account.pk, "to": TO, "text": "hello", "kind": "text"} | body,
                         **headers)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted yet, and no window ends in the middle of a test."""
    cache.clear()
    monkeypatch.setattr("messaging.throttle.time", SimpleNamespace(time=lambda: 1_800_000_000.0))


@pytest.fixture
def account() -> Account:
    return connected("Front office")


def connected(label: str) -> Account:
    account = Account.objects.create(label=label)
    Session.objects.filter(account=account).update(state="connected", store="x.sqlite3")
    return Account.objects.select_related("session").get(pk=account.pk)


@pytest.fixture
def caller() -> Caller:
    return Caller(ApiKey.make("shop", list(Scope))[1])


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Return the problem, which must be this one."""
    told: dict[str, Any] = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    assert answer["Content-Type"] == "application/problem+json"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"].endswith((".", ")"))
    return told


# -- keys


def test_a_key_is_needed_in_the_header_and_nowhere_else(caller: Caller, account: Account) -> None:
    stranger = Caller()
    assert refused(stranger.get("/accounts"), 401, "key_missing")
    assert stranger.get("/accounts")["WWW-Authenticate"] == "Bearer"
    refused(stranger.get("/accounts", Authorization=f"Basic {caller.key}"), 401, "key_missing")
    refused(stranger.get(f"/accounts?key={caller.key}"), 400, "key_in_url")
    refused(Caller(caller.key[:-1] + "x").get("/accounts"), 401, "key_invalid")
    refused(Caller("nonsense").get("/accounts"), 401, "key_invalid")
    refused(Caller("wsk_\u00e9_x").get("/accounts"), 401, "key_invalid")
    assert caller.get("/accounts").json()["items"][0]["label"] == "Front office"


def test_a_revoked_or_expired_key_opens_nothing(caller: Caller) -> None:
    key = ApiKey.objects.get()
    assert caller.get("/accounts").status_code == 200
    key.refresh_from_db()
    assert key.last_used_at is not None
    ApiKey.objects.update(expires_at=timezone.now())
    refused(caller.get("/accounts"), 401, "key_invalid")
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert caller.get("/accounts").status_code == 200
    key.revoke()
    refused(caller.get("/accounts"), 401, "key_invalid")


def test_scopes_say_what_a_key_may_do(account: Account) -> None:
    reader, sender = (Caller(ApiKey.make(name, [name])[1]) for name in (Scope.READ, Scope.SEND))
    assert reader.get("/messages").status_code == 200
    assert "“send”" in refused(reader.send(account), 403, "scope_missing")["detail"]
    assert sender.send(account).status_code == 202
    refused(sender.get("/messages"), 403, "scope_missing")
    refused(sender.post(f"/accounts/{account.pk}/stop"), 403, "scope_missing")


def test_a_key_for_some_accounts_sees_no_other_also_when_those_are_deleted(account: Account) -> None:
    other = connected("Other")
    limited = Caller(ApiKey.make("limited", list(Scope), [account])[1])
    theirs = Message.queue(Chat.objects.of(other, "6281200000009@s.whatsapp.net"), Kind.TEXT, {"text": "secret"})
    assert [one["label"] for one in limited.get("/accounts").json()["items"]] == ["Front office"]
    assert limited.get("/messages").json()["items"] == []
    assert limited.get("/sessions").json()["items"][0]["account_id"] == account.pk
    for answer in (limited.get(f"/messages/{theirs.pk}"), limited.post(f"/messages/{theirs.pk}/cancel"),
                   limited.get(f"/accounts/{other.pk}"), limited.send(other),
                   limited.get(f"/chats?account_id={other.pk}"), limited.get(f"/messages?account_id={other.pk}"),
                   limited.post(f"/accounts/{other.pk}/stop")):  # fmt: skip
        refused(answer, 404, "not_found")
    refused(limited.post("/accounts", {"label": "New"}), 403, "scope_missing")
    account.delete()
    assert limited.get("/accounts").json()["items"] == []
    refused(limited.get(f"/accounts/{other.pk}"), 404, "not_found")


def test_the_key_is_stored_and_told_nowhere(
    caller: Caller, account: Account, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)

    def fault(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("unforeseen")

    wrong = caller.key[:-4] + "0000"
    answers = [Caller(wrong).get("/accounts"), Caller(wrong).send(account), caller.get("/nothing"),
               caller.get(f"/accounts?key={caller.key}"), caller.post("/messages", "{"),
               caller.send(account)]  # fmt: skip
    monkeypatch.setattr("messaging.api.messages.accept_once", fault)
    answers.append(caller.send(account))
    refused(answers[-1], 500, "internal_error")
    secrets = (caller.key.split("_")[2], wrong.split("_")[2])
    for place in (caplog.text, *(answer.content.decode() for answer in answers),
                  json.dumps(list(ApiKey.objects.values()), default=str), repr(ApiKey.objects.get())):  # fmt: skip
        assert not any(secret in place for secret in secrets)
    assert "unforeseen" in caplog.text
    assert "unforeseen" not in answers[-1].content.decode()


def test_a_message_is_accepted_with_few_questions(
    caller: Caller, account: Account, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(n: int) -> Any:
        return caller.send(account, text=f"{n}", headers={"Idempotency-Key": f"order-{n}"})

    assert send(1).status_code == 202  # this one makes the chat, and notes that the key was used
    monkeypatch.setattr(throttle, "look", None)  # whether the address guesses keys was asked a moment ago
    with django_assert_num_queries(3):  # the key; the account, its session and the chat; the message
        assert send(2).status_code == 202
    assert send(2).json()["id"] == Message.objects.latest("pk").pk


def test_wrong_keys_are_slowed_down_per_address(caller: Caller, settings: Settings) -> None:
    settings.API_FAILURES = 3
    assert caller.get("/accounts").status_code == 200  # an address without a failure so far
    stranger = Caller("wsk_aaaaaaaaaa_" + "0" * 64)
    assert [stranger.get("/accounts").status_code for _ in range(4)] == [401, 401, 401, 429]
    assert int(stranger.get("/accounts")["Retry-After"]) > 0
    refused(caller.get("/accounts"), 429, "too_many_failures")  # the right key is not told from a wrong one


def test_a_key_and_an_account_have_their_rates(caller: Caller, account: Account, settings: Settings) -> None:
    settings.API_RATE = 5
    first = caller.get("/accounts")
    assert first["RateLimit-Policy"] == '"key";q=5;w=60'
    assert first["RateLimit"].startswith('"key";r=4;t=')
    for _ in range(4):
        caller.get("/accounts")
    over = caller.get("/accounts")
    refused(over, 429, "rate_limited")
    assert 0 < int(over["Retry-After"]) <= 60
    settings.API_RATE, settings.API_ACCOUNT_RATE = 100, 2
    other = Caller(ApiKey.make("other", list(Scope))[1])
    assert [c.send(account).status_code for c in (caller, other, caller)] == [202, 202, 429]
    assert caller.send(connected("Second")).status_code == 202


# -- messages


def test_an_accepted_message_is_stored_and_shown(caller: Caller, account: Account) -> None:
    answer = caller.send(account, text="Hello “you” 👋", reply_to=None)
    assert answer.status_code == 202
    told = answer.json()
    row = Message.objects.get(pk=told["id"])
    assert (row.state, row.text, row.chat.phone, row.queued_by) == ("queued", "Hello “you” 👋", "6281200000001", "shop")
    assert told["chat"] == {"jid": "6281200000001@s.whatsapp.net", "phone": "+6281200000001", "lid": None, "name": "",
                            "group": False}  # fmt: skip
    assert caller.get(f"/messages/{row.pk}").json() == told
    assert caller.get("/messages?q=you&state=queued&direction=out").json()["items"] == [told]
    assert caller.get("/messages?q=nobody").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "location", "latitude": -6.2, "longitude": 106.8, "name": "Office"},
        {"kind": "contact", "name": "Siti", "phones": ["0812-0000-0002"]},
        {"kind": "poll", "question": "When?", "options": ["now", "later"]},
        {"kind": "image", "media": {"base64": base64.b64encode(PNG).decode()}, "caption": "a"},
        {"kind": "document", "media": {"base64": "aGVsbG8=", "filename": "a.txt", "mime": "text/plain"}},
        {"kind": "text", "text": "@6281200000002 look", "mentions": ["+6281200000002"], "preview": True},
    ],
)
def test_every_kind_is_accepted(caller: Caller, account: Account, body: dict[str, Any]) -> None:
    body = {"account_id": account.pk, "to": "120363000000000000@g.us"} | body
    answer = caller.post("/messages", body)
    assert answer.status_code == 202, answer.content
    assert answer.json()["chat"]["group"] is True


def test_reactions_edits_and_revokes_are_about_a_message_of_the_chat(caller: Caller, account: Account) -> None:
    chat = Chat.objects.of(account, "6281200000001@s.whatsapp.net")
    ours = Message.queue(chat, Kind.TEXT, {"text": "helo"})
    theirs = Message.receive(chat, "A1", Kind.TEXT, {"text": "hi"}, timezone.now())
    envelope = {"account_id": account.pk, "to": TO}
    for body in ({"kind": "reaction", "message_id": theirs.pk, "emoji": "👍"},
                 {"kind": "edit", "message_id": ours.pk, "text": "hello"}, {"kind": "revoke", "message_id": ours.pk},
                 {"kind": "text", "text": "yes", "reply_to": theirs.pk}):  # fmt: skip
        answer = caller.post("/messages", envelope | body)
        assert answer.status_code == 202, answer.content
        assert answer.json()["target_id"] in (ours.pk, theirs.pk)
    not_ours, nowhere = {"kind": "revoke", "message_id": theirs.pk}, {"kind": "revoke", "message_id": 10**12}
    refused(caller.post("/messages", envelope | not_ours), 422, "target_not_ours")
    refused(caller.post("/messages", envelope | nowhere), 422, "target_missing")
    elsewhere = {"account_id": account.pk, "to": "+6281200000077", "kind": "revoke", "message_id": ours.pk}
    refused(caller.post("/messages", elsewhere), 422, "target_missing")


def test_the_same_idempotency_key_sends_once(caller: Caller, account: Account) -> None:
    def send(text: str, key: str = "order-1") -> Any:
        return caller.send(account, text=text, headers={"Idempotency-Key": key})

    first, again = send("a"), send("a")
    assert first.json()["id"] == again.json()["id"]
    refused(send("b"), 409, "idempotency_conflict")
    assert send("b", "order-2").json()["id"] != first.json()["id"]
    assert send("c", "ORDER-2").status_code == 202  # another key, though MariaDB compares without regard to case
    assert Message.objects.count() == 3
    Message.objects.update(created_at=timezone.now() - timedelta(hours=24))
    assert send("b").status_code == 202
    assert Message.objects.count() == 4
    refused(send("c", "x" * 300), 422, "invalid_request")
    refused(send("c", "a\tb"), 400, "idempotency_key_invalid")
    other = Caller(ApiKey.make("other", list(Scope))[1])
    assert other.send(account, text="z", headers={"Idempotency-Key": "order-1"}).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_the_same_idempotency_key_at_once_sends_once(account: Account) -> None:
    caller = Caller(ApiKey.make("shop", list(Scope))[1])
    start, ids = threading.Barrier(4), []

    def send() -> None:
        try:
            start.wait(10)
            ids.append(caller.send(account, headers={"Idempotency-Key": "order-1"}).json()["id"])
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ids) == 4
    assert set(ids) == {Message.objects.get().pk}


def test_waiting_gives_the_outcome_or_202(caller: Caller, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"account_id": account.pk, "to": TO, "kind": "text"}
    assert caller.post("/messages?wait=0.2", body | {"text": "a"}).status_code == 202

    def sent(seconds: float) -> None:
        message = Message.objects.get(text="b")
        hand_over(message)
        message.sent("3EB0", timezone.now())

    monkeypatch.setattr("messaging.api.messages.time.sleep", sent)
    answer = caller.post("/messages?wait=5", body | {"text": "b"})
    assert (answer.status_code, answer.json()["state"], answer.json()["whatsapp_id"]) == (200, "sent", "3EB0")
    refused(caller.post("/messages?wait=31", body | {"text": "b"}), 422, "invalid_request")


def test_a_queued_message_can_be_cancelled_and_sent_again(caller: Caller, account: Account) -> None:
    pk = caller.send(account, send_at=(timezone.now() + timedelta(days=1)).isoformat()).json()["id"]
    assert caller.post(f"/messages/{pk}/cancel").json()["state"] == "cancelled"
    refused(caller.post(f"/messages/{pk}/cancel"), 409, "wrong_state")
    assert caller.post(f"/messages/{pk}/resend").json()["state"] == "queued"
    refused(caller.post(f"/messages/{pk}/resend"), 409, "wrong_state")
    refused(caller.post("/messages/999999/cancel"), 404, "not_found")


def test_pages_follow_one_another_while_messages_arrive(caller: Caller, account: Account) -> None:
    for n in range(5):
        caller.send(account, text=str(n))
    first = caller.get("/messages?limit=2").json()
    caller.send(account, text="new")
    second = caller.get(f"/messages?limit=2&cursor={first['next']}").json()
    third = caller.get(f"/messages?limit=2&cursor={second['next']}").json()
    texts = [item["content"]["text"] for page in (first, second, third) for item in page["items"]]
    assert texts == ["4", "3", "2", "1", "0"]
    assert third["next"] is None
    refused(caller.get("/messages?cursor=nonsense"), 400, "invalid_cursor")


# -- bad input


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"to": "12"}, 422, "invalid_phone"), ({"to": "nobody"}, 422, "invalid_phone"),
        ({"to": ""}, 422, "invalid_phone"),
        ({"to": "x@g.us"}, 422, "invalid_address"), ({"to": "status@broadcast"}, 422, "invalid_address"),
        ({"to": "123@lid; DROP TABLE"}, 422, "invalid_address"), ({"to": 5}, 422, "invalid_request"),
        ({"account_id": 10**9}, 404, "not_found"), ({"account_id": 10**30}, 422, "invalid_request"),
        ({"account_id": "x"}, 422, "invalid_request"), ({"text": ""}, 422, "invalid_request"),
        ({"text": "  "}, 422, "invalid_request"), ({"text": "a\x00b"}, 422, "invalid_request"),
        ({"text": "x" * 65_537}, 422, "invalid_request"), ({"text": None}, 422, "invalid_request"),
        ({"kind": "carrier pigeon"}, 422, "invalid_request"), ({"tex": "typo"}, 422, "invalid_request"),
        ({"mentions": ["12"]}, 422, "invalid_phone"), ({"on_uncertain": "maybe"}, 422, "invalid_request"),
        ({"send_at": "2001-01-01T00:00:00Z"}, 422, "send_at_past"), ({"send_at": "soon"}, 422, "invalid_request"),
        ({"send_at": "2199-01-01T00:00:00Z"}, 422, "send_at_far"),
        ({"send_at": "2030-01-01T00:00:00"}, 422, "invalid_request"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 422, "expires_at_past"),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, 422, "invalid_request"),
        ({"kind": "image", "media": {}}, 422, "invalid_request"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_said_at_once(
    caller: Caller, account: Account, change: dict[str, Any], status: int, code: str
) -> None:
    refused(caller.send(account, **change), status, code)
    assert Message.objects.count() == 0
    assert Chat.objects.count() == 0


@pytest.mark.parametrize(
    ("media", "status", "code"),
    [
        ({}, 422, "media_missing"), ({"id": 1, "url": "https://example.org/"}, 422, "media_missing"),
        ({"id": 999}, 422, "media_unknown"), ({"base64": "not base64!"}, 422, "media_base64"),
        ({"base64": ""}, 422, "media_empty"), ({"base64": "PGh0bWw+"}, 422, "media_type"),
        ({"base64": base64.b64encode(PNG + b"x" * 2000).decode()}, 413, "media_too_large"),
        ({"url": "http://example.org/a.png"}, 422, "url_not_https"),
        ({"url": "https://127.0.0.1/a.png"}, 422, "url_private"),
        ({"url": "https://169.254.169.254/latest"}, 422, "url_private"), ({"url": "/etc/passwd"}, 422, "url_not_https"),
        ({"url": "file:///etc/passwd"}, 422, "url_not_https"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_at_once(
    caller: Caller, account: Account, settings: Settings, media: dict[str, Any], status: int, code: str
) -> None:
    settings.MEDIA_MAX_BYTES = 1000
    body = {"account_id": account.pk, "to": TO, "kind": "image", "media": media}
    refused(caller.post("/messages", body), status, code)
    assert Message.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_json"), ("", 422, "invalid_request"), (b"\xff\xfe{}", 400, "invalid_json"),
        ("[]", 422, "invalid_request"), ("null", 422, "invalid_request"), ('"text"', 422, "invalid_request"),
        ("{}", 422, "invalid_request"), ("[" * 100_000, 400, "invalid_json"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_message_is_refused(caller: Caller, body: str | bytes, status: int, code: str) -> None:
    refused(caller.post("/messages", body), status, code)


def test_bad_unicode_is_refused(caller: Caller, account: Account) -> None:
    body = f'{{"account_id": {account.pk}, "to": "{TO}", "kind": "text", "text": "\\ud800"}}'
    refused(caller.post("/messages", body), 422, "invalid_request")


def test_a_body_that_is_too_large_is_refused(caller: Caller, settings: Settings) -> None:
    settings.API_MAX_BODY = 1000
    refused(caller.post("/messages", "x" * 1001), 413, "body_too_large")


def test_an_unknown_address_or_method_is_a_problem_too(caller: Caller) -> None:
    refused(caller.get("/nothing"), 404, "not_found")
    answer = caller.call("DELETE", "/messages")
    refused(answer, 405, "method_not_allowed")
    assert "POST" in answer["Allow"]


@pytest.mark.parametrize(
    ("session", "code"),
    [
        ({"state": "unpaired"}, "account_not_paired"), ({"state": "logged_out"}, "account_not_paired"),
        ({"state": "banned"}, "account_banned"), ({"state": "stopped", "hold": "conflict"}, "account_stopped"),
    ],
)  # fmt: skip
def test_an_account_that_cannot_send_says_why(
    caller: Caller, account: Account, session: dict[str, str], code: str
) -> None:
    Session.objects.filter(account=account).update(**session)
    refused(caller.send(account), 409, code)


def test_a_stopped_account_says_so_and_one_that_reconnects_accepts(caller: Caller, account: Account) -> None:
    Session.objects.update(state="waiting")
    assert caller.send(account).status_code == 202
    Account.objects.update(desired=Desired.OFFLINE)
    refused(caller.send(account), 409, "account_stopped")


def test_a_number_that_is_not_on_whatsapp_is_refused_once_that_is_known(caller: Caller, account: Account) -> None:
    assert caller.send(account).status_code == 202
    Chat.objects.update(absent_at=timezone.now())
    refused(caller.send(account), 422, "not_on_whatsapp")
    Chat.objects.update(absent_at=timezone.now() - Chat.ABSENCE)
    assert caller.send(account).status_code == 202


# -- files


def test_an_uploaded_file_is_sent_by_the_key_that_uploaded_it(caller: Caller, account: Account) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    client = Client(headers={"Authorization": f"Bearer {caller.key}"})
    told = client.post("/api/v1/media", {"file": SimpleUploadedFile("a.png", PNG, "image/png")})
    assert told.status_code == 201, told.content
    body = {"account_id": account.pk, "to": TO, "kind": "image", "media": {"id": told.json()["id"]}}
    sent = caller.post("/messages", body)
    assert sent.json()["media"]["sha256"] == told.json()["sha256"]
    other = Caller(ApiKey.make("other", list(Scope))[1])
    refused(other.post("/messages", body), 422, "media_unknown")
    refused(caller.post("/messages", body | {"kind": "sticker"}), 422, "media_type")


def test_a_file_is_read_by_its_signed_address_until_that_expires(
    caller: Caller, account: Account, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_DIR = tmp_path  # other tests keep the same picture at the same moment
    chat = Chat.objects.of(account, "6281200000001@s.whatsapp.net")
    Message.receive(chat, "A1", Kind.IMAGE, {}, timezone.now(), media=Media.store(PNG, "image/png", "a.png"))
    url = caller.get("/messages").json()["items"][0]["media"]["url"]
    answer = Client().get(url)
    assert answer.content == PNG
    assert answer["Content-Type"] == "image/png"
    assert "sandbox" in answer["Content-Security-Policy"]
    refused(Client().get(url[:-1] + ("a" if url[-1] != "a" else "b")), 404, "not_found")
    settings.MEDIA_URL_LIFETIME = timedelta(seconds=-1)
    refused(Client().get(url), 410, "media_expired")
    settings.MEDIA_URL_LIFETIME = timedelta(hours=1)
    Media.objects.get().file.unlink()
    refused(Client().get(url), 410, "media_gone")


def test_a_file_by_address_is_fetched_later(caller: Caller, account: Account, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_URLS = True
    body = {"account_id": account.pk, "to": TO, "kind": "image", "media": {"url": "http://127.0.0.1:9/a.png"}}
    assert caller.post("/messages", body).json()["media"]["state"] == "wanted"
    assert Media.objects.get().state == MediaState.WANTED


# -- accounts


def test_an_account_is_made_paired_and_controlled(caller: Caller) -> None:
    told = caller.post("/accounts", {"label": "  New   one ", "phone": "0812-0000-0003"}).json()
    assert (told["label"], told["phone"], told["session"]["state"]) == ("New one", "+6281200000003", "unpaired")
    path = f"/accounts/{told['id']}"
    refused(caller.post("/accounts", {"label": "New one"}), 409, "account_exists")
    refused(caller.post("/accounts", {"label": "Other", "phone": "+62 812 0000 0003"}), 409, "account_exists")
    refused(caller.post("/accounts", {"label": "Other", "proxy": "ftp://x"}), 422, "invalid_request")
    refused(caller.post("/accounts", {"label": ""}), 422, "invalid_request")
    refused(caller.post(f"{path}/start"), 409, "account_not_paired")
    assert caller.post(f"{path}/pair").status_code == 202
    assert SessionCommand.objects.get().requester == "API key shop"
    refused(caller.get(f"{path}/pairing.png"), 409, "wrong_state")
    Session.objects.update(state="pairing", qr_text="2@abc", code_expires_at=timezone.now())
    assert caller.get(f"{path}/pairing").json()["qr"] == "2@abc"
    assert caller.get(f"{path}/pairing.png").content.startswith(b"\x89PNG")
    assert b"<svg" in caller.get(f"{path}/pairing.svg").content
    refused(caller.get(f"{path}/pairing.gif"), 422, "invalid_request")
    assert caller.call("DELETE", f"{path}/pairing").status_code == 202
    Session.objects.update(state="connected", store="x")
    for verb in ("stop", "start", "restart", "logout"):
        assert caller.post(f"{path}/{verb}").status_code == 202
    refused(caller.post(f"{path}/explode"), 422, "invalid_request")


def test_the_proxy_of_an_account_is_never_shown(caller: Caller) -> None:
    answer = caller.post("/accounts", {"label": "a", "proxy": "http://user:secret@proxy.example:8080"})
    assert answer.status_code == 201
    assert b"secret" not in answer.content + caller.get("/accounts").content


# -- what only a host knows


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A host that answers as told."""
    told: dict[str, Any] = {}

    def answer(seconds: float) -> None:
        for request in HostRequest.objects.open(timezone.now()):
            request.finish(**told) if told else None

    monkeypatch.setattr("messaging.api.asking.time.sleep", answer)
    return told


def test_numbers_are_looked_up_and_what_is_not_on_whatsapp_is_remembered(
    caller: Caller, account: Account, host: dict[str, Any]
) -> None:
    Chat.objects.of(account, "6281200000002@s.whatsapp.net")
    host["answer"] = {"contacts": [
        {"phone": "6281200000001", "on_whatsapp": True, "jid": "6281200000001@s.whatsapp.net", "lid": "7@lid"},
        {"phone": "6281200000002", "on_whatsapp": False},
    ]}  # fmt: skip
    body = {"account_id": account.pk, "phones": ["+6281200000001", "081200000002"]}
    told = caller.post("/contacts/check", body).json()
    assert [(one["phone"], one["on_whatsapp"], one["lid"]) for one in told["items"]] == [
        ("+6281200000001", True, "7@lid"), ("+6281200000002", False, None)]  # fmt: skip
    assert HostRequest.objects.get().arguments == {"phones": ["6281200000001", "6281200000002"]}
    refused(caller.send(account, to="+6281200000002"), 422, "not_on_whatsapp")


def test_groups_pictures_and_typing_are_asked_of_the_host(
    caller: Caller, account: Account, host: dict[str, Any]
) -> None:
    group = {"jid": "1@g.us", "name": "Team", "participants": [{"jid": "2@lid", "lid": "2@lid", "admin": True}]}
    for path, answer, ask in (
        (f"/groups?account_id={account.pk}", {"groups": [group]}, Ask.GROUPS),
        (f"/groups/12345678@g.us?account_id={account.pk}", group, Ask.GROUP),
        (f"/contacts/+6281200000001/picture?account_id={account.pk}", {"url": "https://x/y"}, Ask.PICTURE),
    ):  # fmt: skip
        host["answer"] = answer
        assert caller.get(path).status_code == 200, path
        assert HostRequest.objects.latest("pk").ask == ask
    assert caller.post("/presence", {"account_id": account.pk, "to": TO}).json() == {"done": True}
    refused(caller.get(f"/groups/7@lid?account_id={account.pk}"), 422, "invalid_address")


def test_a_host_that_refuses_or_is_silent_is_told_from_one_that_is_away(
    caller: Caller, account: Account, host: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/groups?account_id={account.pk}"
    host |= {"error_code": "whatsapp_refused", "error": "WhatsApp says no."}
    assert refused(caller.get(path), 502, "whatsapp_refused")["detail"] == "WhatsApp says no."
    host.clear()
    monkeypatch.setattr("messaging.api.asking.PATIENCE", timedelta(seconds=0.05))
    refused(caller.get(path), 504, "host_silent")
    Session.objects.update(state="waiting")
    refused(caller.get(path), 503, "account_offline")
    Session.objects.update(state="connected", lease_expires_at=timezone.now() - timedelta(seconds=1))
    refused(caller.get(path), 503, "account_offline")


# -- health


def test_health_is_unknown_until_something_is_measured_and_as_bad_as_its_incidents(
    caller: Caller, account: Account
) -> None:
    assert caller.get("/health").json() == {"status": "unknown", "readings": [], "incidents": []}
    now = timezone.now()
    HealthSample.objects.create(metric="memory_usage", subject="", at=now, value=40, minimum=40, maximum=40, count=1)
    told = caller.get("/health").json()
    assert (told["status"], told["readings"][0]["value"]) == ("ok", 40)
    Incident.open("memory_usage", "system", "", "", "Memory is full", Severity.CRITICAL, now, {})
    told = caller.get("/health").json()
    assert (told["status"], told["incidents"][0]["title"]) == ("critical", "Memory is full")
    limited = Caller(ApiKey.make("limited", list(Scope), [account])[1])
    refused(limited.get("/health"), 403, "scope_missing")


# -- the document


def test_the_document_and_its_page_need_nothing_from_elsewhere() -> None:
    client = Client()
    document = client.get("/api/v1/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["responses"]["401"]["content"].keys() == {"application/problem+json"} for one in operations)
    page = client.get("/api/v1/docs").content.decode()
    assert "swagger-ui" in page
    assert "http://" not in page
    assert "https://" not in page
