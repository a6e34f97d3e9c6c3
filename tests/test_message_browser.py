"""The pages of messages, webhooks, bulk sends, hosts and jobs in a real browser: everybody can use them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Browser, expect

from accounts.models import Account
from messaging.bulks import Person, make_bulk
from messaging.kinds import Kind
from messaging.models import AutoReply, Bulk, Chat, Delivery, DeliveryState, Event, EventKind, Media, Message
from messaging.models import WebhookEndpoint as Endpoint
from sessions_app.models import Job
from tests.installation import Installation, live_host, wait_for
from tests.test_e2e import address, browser, logged_in
from tests.test_health_browser import faults
from tests.test_webhooks import PNG, connected, publish

pytestmark = pytest.mark.browser

__all__ = ["address", "browser"]

#: What no browser breaks by itself.
LONG = "https://example.org/" + "a-long-address" * 20


@pytest.fixture(autouse=True)
def _files(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MEDIA_DIR", installation.folder / "media")


def talked(account: Account) -> Chat:
    """Return a conversation with everything that is shown in one."""
    now, chat = timezone.now(), Chat.objects.of(account, "6281200000001@s.whatsapp.net", name="Siti")
    theirs = Message.receive(chat, "A1", Kind.TEXT, {"text": LONG}, now, sender_name="Siti")
    Message.receive(chat, "A2", Kind.EDIT, {"text": f"{LONG}2"}, now, target=theirs)
    Message.receive(chat, "A3", Kind.IMAGE, {"caption": "look"}, now, media=Media.store(PNG, "image/png", "p.png"))
    Message.receive(chat, "A4", Kind.DOCUMENT, {"caption": ""}, now,
                    media=Media.store(b"%PDF-1.4", "application/pdf", f"{'a' * 150}.pdf"))  # fmt: skip
    for state in ("sent", "failed", "uncertain"):
        ours = Message.queue(chat, Kind.TEXT, {"text": "our answer"}, target=theirs)
        Message.objects.filter(pk=ours.pk).update(state=state, error="It may have arrived.")
    return chat


def told(account: Account) -> Endpoint:
    """Return a webhook with deliveries of every state."""
    endpoint = Endpoint.objects.create(url=LONG, account=account, failing_since=timezone.now())
    for n, state in enumerate(DeliveryState):
        event = Event.append(EventKind.SESSION, account.pk, {}, at=timezone.now() - timedelta(hours=1 + n))
        Delivery.objects.create(endpoint=endpoint, event=event, account=account, state=state, error=LONG)
    publish()
    return endpoint


def test_every_page_about_messages_can_be_used_by_everybody(
    browser: Browser, address: str, installation: Installation
) -> None:
    account = connected("Front office")
    chat, endpoint = talked(account), told(account)
    picture = Media(mime="image/png", name="p.png", path="x", size=28, sha256="0" * 64)
    bulk = make_bulk(account, "News", Kind.IMAGE, {"caption": LONG}, [Person("+6281200000009"), Person("12")], by="ana",
                     media=picture)  # fmt: skip
    AutoReply.objects.create(account=account, keyword="price", match="word", reply="10 each")
    Job.objects.update_or_create(name="live_back", defaults={"last_run_at": timezone.now(), "error": LONG,
                                                            "counts": {"due": 1, "expired": 0}})  # fmt: skip
    host = wait_for(live_host)
    assert host is not None
    since = timezone.localtime(timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    of = "/admin/messaging"
    dead = endpoint.deliveries.get(state=DeliveryState.DEAD)
    page = logged_in(browser, address)
    assert faults(page, address, {
        "messages": f"{of}/message/", "message": f"{of}/message/{chat.messages.earliest('pk').pk}/change/",
        "chats": f"{of}/chat/", "talk": f"{of}/chat/{chat.pk}/talk/", "bulks": f"{of}/bulk/",
        "bulk": f"{of}/bulk/{bulk.pk}/change/", "bulk-new": f"{of}/bulk/add/", "replies": f"{of}/autoreply/",
        "reply-new": f"{of}/autoreply/add/", "pacing-new": f"{of}/pacingrule/add/",
        "webhooks": f"{of}/webhookendpoint/", "webhook": f"{of}/webhookendpoint/{endpoint.pk}/change/",
        "webhook-new": f"{of}/webhookendpoint/add/",
        "replay": f"{of}/webhookendpoint/{endpoint.pk}/replay/?since={since}",
        "replay-wrong": f"{of}/webhookendpoint/{endpoint.pk}/replay/?since=2001-01-01T00:00&until=x",
        "deliveries": f"{of}/delivery/", "delivery": f"{of}/delivery/{dead.pk}/change/", "events": f"{of}/event/",
        "keys": "/admin/accounts/apikey/", "hosts": "/admin/sessions_app/host/",
        "host": f"/admin/sessions_app/host/{host.pk}/change/", "jobs": "/admin/sessions_app/job/",
        "job": "/admin/sessions_app/job/live_back/change/", "schedules": "/admin/django_q/schedule/",
        "tasks": "/admin/django_q/success/", "failures": "/admin/django_q/failure/",
    }) == []  # fmt: skip


def test_a_chosen_picture_survives_a_mistake_elsewhere(
    browser: Browser, address: str, installation: Installation, tmp_path: Path
) -> None:
    connected("Front office")
    (tmp_path / "shop.png").write_bytes(PNG)
    (tmp_path / "people.csv").write_text("phone,name\n+6281200000009,Siti\n")
    page = logged_in(browser, address)
    page.goto(f"{address}/admin/messaging/bulk/add/")
    page.get_by_role("combobox", name="Account").click()
    page.get_by_role("option", name="Front office").click()
    page.get_by_label("Name").fill("News")
    page.get_by_label("Text").fill("Hi {{name}}")
    page.set_input_files("input[name=attachment]", tmp_path / "shop.png")
    page.set_input_files("input[name=file]", tmp_path / "people.csv")
    save = page.get_by_role("button", name="Save", exact=True)
    save.click()  # as a text, which carries no file
    expect(page.get_by_text("A text carries no file")).to_be_visible()
    expect(page.get_by_role("checkbox", name="shop.png")).to_be_checked()
    expect(page.get_by_role("checkbox", name="people.csv")).to_be_checked()
    page.get_by_label("Kind").select_option("image")
    save.click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    bulk = Bulk.objects.get()
    assert (bulk.kind, bulk.progress()["total"]) == (Kind.IMAGE, 1)
    assert bulk.media is not None
    assert bulk.media.read() == PNG
