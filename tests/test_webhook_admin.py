"""Webhooks and their deliveries in the admin: made, tested, switched off, and told again what they missed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, expect

from accounts.models import Account
from messaging.models import Delivery, DeliveryState, Event, EventKind, WebhookEndpoint
from messaging.models import webhook as webhook_model
from tests.installation import Installation, wait_for
from tests.test_e2e import address, browser, logged_in
from tests.test_message_admin import act
from tests.test_webhooks import Sink, connected, deliver_all, publish, sink

__all__ = ["address", "browser", "sink"]

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MODEL = "messaging_webhookendpoint"


@pytest.fixture
def account(db: None) -> Account:
    return connected("Front office")


@pytest.fixture
def endpoint(account: Account) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(url="https://8.8.8.8/", account=account, events=["session.changed"])


def replay(endpoint: WebhookEndpoint) -> str:
    return reverse("admin:webhook_replay", args=[endpoint.pk])


def typed(at: datetime) -> str:
    """Return a time as the browser's calendar sends it."""
    return timezone.localtime(at).strftime("%Y-%m-%dT%H:%M")


def staff(*permissions: str) -> Client:
    """Return a browser of somebody who may do this, and nothing else."""
    user = User.objects.create_user("-".join(permissions) or "nobody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def happened(account: Account | None, ago: timedelta, kind: EventKind = EventKind.SESSION) -> Event:
    """Append an event that is so old, and was told already."""
    return Event.append(kind, account.pk if account else None, {}, at=timezone.now() - ago)


def told() -> None:
    """Publish what happened; the deliveries of it are done and forgotten."""
    publish()
    Delivery.objects.all().delete()


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


def test_the_page_of_a_webhook_shows_what_it_was_told_and_sends_a_test(
    admin_client: Client, endpoint: WebhookEndpoint
) -> None:
    page, test = (reverse(f"admin:{name}", args=[endpoint.pk]) for name in (f"{MODEL}_change", "webhook_test"))
    assert b"Newest deliveries" not in admin_client.get(page).content
    assert admin_client.get(test).status_code == 405
    said = admin_client.post(test, follow=True).content.decode()
    delivery = Delivery.objects.get()
    assert (delivery.endpoint, delivery.event.kind) == (endpoint, EventKind.TEST)
    for words in ("A test is on its way", "1 event waits", f"webhook.test {delivery.event_id}"):
        assert words in said, words
    endpoint.switch_off("ana")
    assert "Enable this webhook first." in admin_client.post(test, follow=True).content.decode()
    assert staff("view_webhookendpoint").post(test).status_code == 403
    assert Delivery.objects.count() == 1


def test_a_webhooks_form_speaks_the_readers_language(admin_client: Client) -> None:
    page = admin_client.get(reverse(f"admin:{MODEL}_add"), headers={"Accept-Language": "id"}).content.decode()
    for words in ("message.received: pesan tiba", ">Akun<"):
        assert words in re.sub(r"\s*([<>])\s*", r"\1", page), words


# -- one delivery


def test_one_delivery_is_sent_again_from_its_page(admin_client: Client, endpoint: WebhookEndpoint) -> None:
    delivery = endpoint.send_test()
    page, again = (reverse(f"admin:{name}", args=[delivery.pk]) for name in (
        "messaging_delivery_change", "delivery_again"))  # fmt: skip
    assert again not in admin_client.get(page).content.decode()
    assert "It is still being tried." in admin_client.post(again, follow=True).content.decode()
    Delivery.objects.update(state=DeliveryState.DEAD, error="It answered 500")
    for client in (staff("view_delivery"), staff("replay_delivery")):
        assert again not in client.get(page).content.decode()
        assert client.post(again).status_code == 403
    assert admin_client.get(again).status_code == 405
    assert Delivery.objects.count() == 1
    assert again in admin_client.get(page).content.decode()
    answer = admin_client.post(again)
    new = Delivery.objects.exclude(pk=delivery.pk).get()
    assert answer["Location"] == reverse("admin:messaging_delivery_change", args=[new.pk])
    assert (new.state, new.replay, new.webhook_id) == (DeliveryState.PENDING, True, delivery.webhook_id)


# -- a time range


def test_a_time_range_is_counted_confirmed_and_sent_again_in_order(
    admin_client: Client, account: Account, endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_model, "_BATCH", 2)
    hours = [happened(account, n * HOUR) for n in (5, 4, 3, 2)]
    for ago, whose, kind in ((9, account, EventKind.SESSION), (3, connected("Other"), EventKind.SESSION),
                             (3, account, EventKind.SENT), (3, account, EventKind.TEST)):  # fmt: skip
        happened(whose, ago * HOUR, kind)
    told()
    late = happened(account, 3 * HOUR)  # written down, and not yet told
    asked = {"since": typed(timezone.now() - 6 * HOUR), "until": ""}
    page = admin_client.get(replay(endpoint), asked)
    assert "4 events from" in page.content.decode()
    assert Delivery.objects.count() == 0
    happened(account, timedelta(0))
    told()  # after the question: the answer is about the time that was asked for
    done = admin_client.post(replay(endpoint), page.context["exactly"], follow=True)
    assert done.redirect_chain[-1][0] == reverse(f"admin:{MODEL}_change", args=[endpoint.pk])
    made = Delivery.objects.filter(replay=True).order_by("pk")
    assert [delivery.event_id for delivery in made] == [event.pk for event in (*hours, late)]
    assert {delivery.state for delivery in made} == {DeliveryState.PENDING}
    assert "5 events from" in done.content.decode()
    history = admin_client.get(reverse(f"admin:{MODEL}_history", args=[endpoint.pk])).content.decode()
    assert "5 events from" in history
    assert "are queued again." in history


def test_the_beginning_belongs_to_a_range_and_the_end_does_not(
    admin_client: Client, account: Account, endpoint: WebhookEndpoint
) -> None:
    since = timezone.now().replace(second=0, microsecond=0) - 2 * HOUR
    for at in (since, since + HOUR):
        Event.append(EventKind.SESSION, account.pk, {}, at=at)
    publish()
    page = admin_client.get(replay(endpoint), {"since": typed(since), "until": typed(since + HOUR)})
    assert page.context["count"] == 1
    page = admin_client.get(replay(endpoint), {"since": typed(since - HOUR), "until": typed(since)})
    assert page.context["count"] == 0


def test_which_events_are_wanted_is_one_rule_for_one_and_for_many(account: Account) -> None:
    for whose in (account, connected("Other"), None):
        for kind in EventKind:
            happened(whose, HOUR, kind)
    publish()
    for whose in (None, account):
        for kinds in ([], ["message.sent", "session.changed"], ["webhook.test"]):
            endpoint = WebhookEndpoint(account=whose, events=kinds)
            wanted = [event for event in Event.objects.order_by("position") if endpoint.wants(event)]
            assert list(endpoint.wanted(Event.objects.all())) == wanted


NOW = timezone.now()
EARLY = NOW - settings.EVENT_RETENTION
WRONG: dict[str, tuple[datetime | str, datetime | str, str, str]] = {
    "the end before the beginning": (NOW - DAY, NOW - 2 * DAY, "until", "after the beginning"),
    "no stretch at all": (NOW - DAY, NOW - DAY, "until", "after the beginning"),
    "an end to come": (NOW - DAY, NOW + 2 * DAY, "until", "leave it empty for everything up to now"),
    "a beginning to come": (NOW + DAY, "", "since", "in the future"),
    "older than what is kept": (EARLY - 9 * DAY, EARLY - 8 * DAY, "since", "Events are kept for 90 days"),
    "partly older": (EARLY - DAY, "", "since", "Events are kept for 90 days"),
    "no beginning": ("", NOW - DAY, "since", "required"),
    "no time": ("yesterday", "2026-02-31T09:00", "since", "valid date/time"),
    "the first year": ("0001-01-01T00:00", "9999-12-31T23:59", "since", "Events are kept for 90 days"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_range_gets_a_sentence_beside_its_field_and_stays_in_the_form(
    admin_client: Client, account: Account, endpoint: WebhookEndpoint, case: str
) -> None:
    happened(account, 5 * HOUR)
    told()
    since, until, field, words = WRONG[case]
    asked = {name: at if isinstance(at, str) else typed(at) for name, at in (("since", since), ("until", until))}
    for ask in (admin_client.get, admin_client.post):
        page = ask(replay(endpoint), asked)
        assert page.status_code == 200
        assert words in " ".join(page.context["form"].errors[field])
        assert "counted" not in page.context
        for at in filter(None, asked.values()):
            assert f'value="{at}"' in page.content.decode()
    assert Delivery.objects.count() == 0


def test_a_range_without_events_and_a_disabled_webhook_are_said_before(
    admin_client: Client, account: Account, endpoint: WebhookEndpoint
) -> None:
    asked = {"since": typed(timezone.now() - 6 * HOUR)}
    page = admin_client.get(replay(endpoint), asked).content.decode()
    assert "Nothing for this webhook happened" in page
    assert 'method="post" class="wa-actions"' not in page
    happened(account, HOUR)
    publish()
    endpoint.switch_off("ana")
    page = admin_client.get(replay(endpoint), asked).content.decode()
    assert "1 event from" in page
    assert "they wait until it is enabled" in page


def test_a_time_range_is_for_those_who_may_send_deliveries_again(account: Account, endpoint: WebhookEndpoint) -> None:
    happened(account, HOUR)
    told()
    asked = {"since": typed(timezone.now() - 6 * HOUR)}
    page = reverse(f"admin:{MODEL}_change", args=[endpoint.pk])
    viewer = staff("view_webhookendpoint")
    assert replay(endpoint) not in viewer.get(page).content.decode()
    for client in (viewer, staff("replay_delivery"), staff()):
        assert client.get(replay(endpoint), asked).status_code == 403
        assert client.post(replay(endpoint), asked).status_code == 403
    assert Delivery.objects.count() == 0
    able = staff("view_webhookendpoint", "replay_delivery")
    assert replay(endpoint) in able.get(page).content.decode()
    assert able.post(replay(endpoint), asked).status_code == 302
    assert Delivery.objects.count() == 1
    assert able.get(reverse("admin:webhook_replay", args=[endpoint.pk + 1])).status_code == 404


def test_what_the_buttons_queue_reaches_the_receiver_with_the_ids_it_knows(
    admin_client: Client, account: Account, sink: Sink
) -> None:
    endpoint = WebhookEndpoint.objects.create(url=f"{sink.url}/", account=account, events=["session.changed"])
    first = [happened(account, n * HOUR).pk for n in (2, 1)]
    publish()
    deliver_all()
    admin_client.post(reverse("admin:webhook_test", args=[endpoint.pk]))
    deliver_all()
    test = Delivery.objects.latest("pk")
    admin_client.post(reverse("admin:delivery_again", args=[test.pk]))
    asked = {"since": typed(timezone.now() - 3 * HOUR)}
    admin_client.post(replay(endpoint), admin_client.get(replay(endpoint), asked).context["exactly"])
    deliver_all()
    got = [headers["webhook-id"] for _path, headers, _body in sink.got]
    assert got == [f"evt_{pk}" for pk in (*first, test.event_id, test.event_id, *first)]
    assert not Delivery.objects.exclude(state=DeliveryState.DELIVERED).exists()


@pytest.mark.browser
def test_a_range_is_sent_again_from_the_keyboard_alone(
    browser: Browser, address: str, installation: Installation
) -> None:
    account = Account.objects.create(label="Front office")
    endpoint = WebhookEndpoint.objects.create(url="https://8.8.8.8/", description="Order system")
    events: list[Any] = [happened(account, n * HOUR) for n in (3, 2, 1)]
    told()
    page = logged_in(browser, address)
    page.goto(f"{address}{reverse(f'admin:{MODEL}_change', args=[endpoint.pk])}")
    page.get_by_label("From").fill(typed(timezone.now() + DAY))
    page.get_by_label("From").press("Enter")
    expect(page.get_by_text("The beginning is in the future.")).to_be_visible()
    page.get_by_label("From").fill(typed(timezone.now() - 5 * HOUR))
    page.get_by_label("From").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("3 events from")
    assert Delivery.objects.count() == 0
    button = page.get_by_role("button", name="Send 3 events again")
    for _ in range(80):
        if button.evaluate("it => it === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("are queued again.")).to_be_visible()
    made = wait_for(lambda: list(Delivery.objects.order_by("pk").values_list("event_id", "replay")))
    assert made == [(event.pk, True) for event in events]
    expect(page.get_by_role("listitem").filter(has_text=f"session.changed {events[0].pk}")).to_be_visible()
