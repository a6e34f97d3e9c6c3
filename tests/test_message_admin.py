"""Messages, keys, webhooks, bulk sends and rules in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session as Login
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging.kinds import Kind
from messaging.models import Bulk, Chat, Delivery, DeliveryState, Event, EventKind, Media, Message, WebhookEndpoint
from messaging.states import MessageState
from tests.test_webhooks import connected

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture
def account() -> Account:
    return connected("Front office")


@pytest.fixture
def chat(account: Account) -> Chat:
    return Chat.objects.of(account, "6281200000001@s.whatsapp.net", name="Siti")


def act(client: Client, model: str, action: str, *rows: Any) -> Any:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(reverse(f"admin:{model}_changelist"), chosen)


# -- keys


def make_key(client: Client, **fields: Any) -> Any:
    return client.post(reverse("admin:accounts_apikey_add"), {"name": "shop", "scopes": ["read"]} | fields)


def test_a_new_key_is_shown_once_and_kept_nowhere(admin_client: Client, account: Account) -> None:
    page = make_key(admin_client, accounts=[account.pk])
    assert page.status_code == 200
    secret = page.context["secret"]
    assert secret in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    key = ApiKey.objects.opened_by(secret, timezone.now())
    assert key is not None
    assert (key.scopes, key.limited, list(key.accounts.all())) == (["read"], True, [account])
    part = secret.split("_")[2]
    for place in (str(LogEntry.objects.values()), str(list(Login.objects.values())), str(admin_client.cookies),
                  admin_client.get(reverse("admin:accounts_apikey_changelist")).content.decode(),
                  admin_client.get(reverse("admin:accounts_apikey_change", args=[key.pk])).content.decode(),
                  ):  # fmt: skip
        assert part not in place
        assert key.hash not in place


def test_a_wrong_key_is_refused_beside_its_field(admin_client: Client) -> None:
    make_key(admin_client)
    over = {"name": "c", "expires_at_0": "2001-01-01", "expires_at_1": "00:00"}
    for fields, field in (({"name": "shop"}, "name"), ({"name": "b", "scopes": []}, "scopes"), (over, "expires_at")):
        assert make_key(admin_client, **fields).context["adminform"].form.errors[field]
    assert ApiKey.objects.count() == 1


def test_a_key_is_revoked_and_never_changed_or_deleted(admin_client: Client) -> None:
    key, secret = ApiKey.make("shop", ["read"])
    act(admin_client, "accounts_apikey", "revoke", key)
    assert ApiKey.objects.opened_by(secret, timezone.now()) is None
    assert admin_client.post(reverse("admin:accounts_apikey_change", args=[key.pk]), {"name": "x"}).status_code == 403
    assert admin_client.post(reverse("admin:accounts_apikey_delete", args=[key.pk]), {"post": "yes"}).status_code == 403


# -- conversations


def test_a_conversation_shows_both_sides_edits_files_and_states(admin_client: Client, chat: Chat) -> None:
    theirs = Message.receive(chat, "A1", Kind.TEXT, {"text": "helo <b>"}, NOW, sender_name="Siti")
    Message.receive(chat, "A2", Kind.EDIT, {"text": "hello <b>"}, NOW, target=theirs)
    Message.receive(chat, "A3", Kind.IMAGE, {"caption": "look"}, NOW, media=Media.store(b"x", "image/png"))
    failed = Message.queue(chat, Kind.TEXT, {"text": "our answer"}, target=theirs)
    Message.objects.filter(pk=failed.pk).update(state="failed", error="It broke.")
    page = admin_client.get(reverse("admin:messaging_chat_change", args=[chat.pk])).content.decode()
    for words in ("hello &lt;b&gt;", "“helo &lt;b&gt;”", "look", "our answer", "It broke.", "/api/v1/media/", "Siti"):
        assert words in page, words
    assert "<b>" not in page
    found = admin_client.get(reverse("admin:messaging_chat_talk", args=[chat.pk]), {"q": "answer"}).content.decode()
    assert "our answer" in found
    assert "look" not in found


def test_a_long_conversation_is_read_page_by_page(admin_client: Client, chat: Chat) -> None:
    for n in range(60):
        Message.queue(chat, Kind.TEXT, {"text": f"number {n}."})
    page = admin_client.get(reverse("admin:messaging_chat_talk", args=[chat.pk]))
    assert b"number 59." in page.content
    assert b"number 9." not in page.content
    older = admin_client.get(reverse("admin:messaging_chat_talk", args=[chat.pk]), {"before": page.context["older"]})
    assert b"number 9." in older.content
    assert older.context["older"] is None


def test_a_conversation_is_for_those_who_may_see_chats(client: Client, chat: Chat) -> None:
    client.force_login(User.objects.create_user("budi", is_staff=True))
    assert client.get(reverse("admin:messaging_chat_talk", args=[chat.pk])).status_code == 403
    assert client.get(reverse("admin:messaging_chat_change", args=[chat.pk])).status_code == 403


def test_a_person_sends_again_only_with_the_permission(client: Client, admin_client: Client, chat: Chat) -> None:
    message = Message.queue(chat, Kind.TEXT, {"text": "a"})
    Message.objects.update(state="uncertain")
    viewer = User.objects.create_user("budi", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_message"))
    client = Client()
    client.force_login(viewer)
    act(client, "messaging_message", "resend", message)
    message.refresh_from_db()
    assert message.state == MessageState.UNCERTAIN
    act(admin_client, "messaging_message", "resend", message)
    message.refresh_from_db()
    assert (message.state, message.queued_by) == (MessageState.QUEUED, "admin")
    act(admin_client, "messaging_message", "cancel", message)
    message.refresh_from_db()
    assert message.state == MessageState.CANCELLED


# -- webhooks


def test_a_webhook_shows_its_secret_once(admin_client: Client) -> None:
    fields = {"url": "https://8.8.8.8/hook", "events": ["message.received"]}
    page = admin_client.post(reverse("admin:messaging_webhookendpoint_add"), fields)
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.secret in page.content.decode()
    changed = admin_client.get(reverse("admin:messaging_webhookendpoint_change", args=[endpoint.pk])).content.decode()
    assert endpoint.secret not in changed
    rotated = act(admin_client, "messaging_webhookendpoint", "rotate", endpoint).content.decode()
    fresh = WebhookEndpoint.objects.get()
    assert fresh.secret != endpoint.secret
    assert fresh.secret in rotated


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://127.0.0.1/", "https://169.254.169.254/", "x"])
def test_a_webhook_to_a_private_address_is_refused(admin_client: Client, url: str) -> None:
    page = admin_client.post(reverse("admin:messaging_webhookendpoint_add"), {"url": url})
    assert page.context["adminform"].form.errors["url"]
    assert WebhookEndpoint.objects.count() == 0


def test_webhooks_are_tested_disabled_enabled_and_replayed(admin_client: Client, account: Account) -> None:
    endpoint, model = WebhookEndpoint.objects.create(url="https://8.8.8.8/"), "messaging_webhookendpoint"
    act(admin_client, model, "test", endpoint)
    assert Delivery.objects.get().event.kind == EventKind.TEST
    act(admin_client, model, "disable", endpoint)
    endpoint.refresh_from_db()
    assert "admin" in endpoint.disabled_reason
    act(admin_client, model, "enable", endpoint)
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is None
    Delivery.objects.update(state=DeliveryState.DEAD)
    act(admin_client, model, "replay_dead", endpoint)
    act(admin_client, "messaging_delivery", "replay_chosen", *Delivery.objects.all())
    assert Delivery.objects.filter(state=DeliveryState.PENDING, replay=True).count() == 2
    assert Event.objects.count() == 1


# -- bulk sends


PEOPLE = b"phone,name\n0812-0000-0001,Siti\n12,Budi\n"


def begin(client: Client, account: Account, data: bytes = PEOPLE, **more: str) -> Any:
    fields = {"account": account.pk, "name": "News", "text": "Hi {{name}}", "file": SimpleUploadedFile("a.csv", data)}
    return client.post(reverse("admin:messaging_bulk_add"), fields | more)


def test_a_bulk_send_is_begun_from_a_file_and_shows_its_results(admin_client: Client, account: Account) -> None:
    assert begin(admin_client, account).status_code == 302
    bulk = Bulk.objects.get()
    assert (bulk.created_by, bulk.progress()) == ("admin", {"total": 2, "waiting": 1, "refused": 1})
    page = admin_client.get(reverse("admin:messaging_bulk_change", args=[bulk.pk])).content.decode()
    assert "not a phone number" in page
    listed = admin_client.get(reverse("admin:messaging_bulk_changelist")).content.decode()
    assert '<progress max="2" value="1">' in listed
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        act(admin_client, "messaging_bulk", action, bulk)
        bulk.refresh_from_db()
        assert bulk.state == state


def test_a_bulk_send_that_could_serve_nobody_is_refused_beside_its_field(
    admin_client: Client, account: Account
) -> None:
    for changes, field in (({"data": b"name\nSiti\n"}, "file"), ({"text": "{Hi"}, "text")):
        page = begin(admin_client, account, **changes)  # type: ignore[arg-type]
        assert page.context["adminform"].form.errors[field]
    Account.objects.update(desired="offline")
    assert begin(admin_client, account).context["adminform"].form.errors["account"]
    assert Bulk.objects.count() == 0


# -- rules


def test_rules_are_made_in_the_admin(admin_client: Client, account: Account) -> None:
    reply = {"account": account.pk, "keyword": "price", "match": "word", "reply": "10 each"}
    assert admin_client.post(reverse("admin:messaging_autoreply_add"), reply).status_code == 302
    pace = {"account": account.pk, "per_minute": 10, "gap": 2, "jitter": 0.5, "daily_cap": 100, "quiet_from": "21:00"}
    page = admin_client.post(reverse("admin:messaging_pacingrule_add"), pace)
    assert page.context["adminform"].form.errors["quiet_until"]
    pace |= {"quiet_until": "07:00"}
    assert admin_client.post(reverse("admin:messaging_pacingrule_add"), pace).status_code == 302
    account.refresh_from_db()
    assert account.pacing.pace.gap == timedelta(seconds=2)
    assert account.auto_replies.get().enabled is False
