"""Messages, keys and rules in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session as Login
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging.kinds import Kind
from messaging.models import Chat, Media, Message
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
