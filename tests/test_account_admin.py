"""Accounts in the admin: the list at scale, actions on selected rows, bad input as one sentence beside its field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import phone, proxy
from accounts.models import Account
from sessions_app.models import Host, Session, SessionCommand
from sessions_app.whatsapp import upstream

pytestmark = pytest.mark.django_db

LIST, ADD = "admin:accounts_account_changelist", "admin:accounts_account_add"


def add(client: Client, **fields: str) -> Any:
    return client.post(reverse(ADD), {"label": "Second", "desired": "online", **fields})


def online(label: str) -> Account:
    account = Account.objects.create(label=label)
    host, _ = Host.objects.get_or_create(name="host-1")
    now = timezone.now()
    Session.objects.filter(account=account).update(
        state="connected", store="x", connected_at=now, host=host, lease_expires_at=now + timedelta(minutes=5)
    )
    return account


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"phone": "12"}, "phone", "is not a phone number"),
        ({"phone": "0812-0000-0001"}, "phone", "already belongs to the account “First”"),
        ({"proxy_url": "ftp://proxy.example:21"}, "proxy_url", "not a proxy URL"),
        ({"proxy_url": "https://proxy.example:443"}, "proxy_url", "not a proxy URL"),
        ({"proxy_url": "http://proxy.example:port"}, "proxy_url", "not a proxy URL"),
        ({"label": "First"}, "label", "already exists"),
        ({"label": " "}, "label", "required"),
    ],
)
def test_a_wrong_account_is_refused_beside_its_field_and_leaves_no_row(
    admin_client: Client, fields: dict[str, str], field: str, words: str
) -> None:
    Account.objects.create(label="First", phone="6281200000001")
    answer = add(admin_client, **fields)
    assert answer.status_code == 200
    assert words in " ".join(answer.context["adminform"].form.errors[field])
    assert Account.objects.count() == Session.objects.count() == 1


@pytest.mark.parametrize("typed", ["+62 812 0000 0002", "+62 (812) 0000-0002", "0812 0000 0002", "6281200000002"])
def test_a_number_is_taken_as_people_write_it(admin_client: Client, typed: str) -> None:
    assert add(admin_client, phone=typed).status_code == 302
    assert Account.objects.get().phone == "6281200000002"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        # with a country code: no number of this country, or one that takes no calls of a mobile
        ("4917012345678", "4917012345678"), ("14155552671", "14155552671"), ("60123456789", "60123456789"),
        ("6591234567", "6591234567"), ("919876543210", "919876543210"), ("+62 812-0000-0002", "6281200000002"),
        ("0065 9123 4567", "6591234567"), ("447700900123", "447700900123"),
        # of this country, the 0 dropped by a spreadsheet or not
        ("81200000002", "6281200000002"), ("85291234567", "6285291234567"), ("+852 9123 4567", "85291234567"),
        ("021 1234 5678", "622112345678"), ("2112345678", "622112345678"),
    ],
)  # fmt: skip
def test_a_number_of_another_country_stays_one(typed: str, meant: str) -> None:
    assert phone.normalise(typed) == meant


def test_saving_an_account_does_not_read_its_number_again(admin_client: Client) -> None:
    account = Account.objects.create(label="Tokyo", phone="819012345678")  # typed, it would be 0819-0123-45678
    account.full_clean()
    assert account.phone == "819012345678"
    url = reverse("admin:accounts_account_change", args=[account.pk])
    form = admin_client.get(url).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields}
    assert admin_client.post(url, data | {"label": "Tokyo 2"}).status_code == 302
    account.refresh_from_db()
    assert (account.label, account.phone) == ("Tokyo 2", "819012345678")


def test_the_field_of_the_number_cuts_nothing_off(admin_client: Client) -> None:
    assert 'maxlength="40"' in str(admin_client.get(reverse(ADD)).context["adminform"].form["phone"])


def test_a_password_of_a_proxy_never_returns_to_the_browser(admin_client: Client) -> None:
    add(admin_client, proxy_url="http://user:hidden@proxy.example:8080")
    account = Account.objects.get()
    page = admin_client.get(reverse("admin:accounts_account_change", args=[account.pk]))
    assert "proxy.example:8080" in page.content.decode()
    assert "hidden@" not in page.content.decode()
    admin_client.post(page.request["PATH_INFO"], {"label": "Second", "desired": "online"})
    assert Account.objects.get().proxy == "http://user:hidden@proxy.example:8080"


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5", "socks5h", "ftp", ""])
def test_a_proxy_is_accepted_only_when_the_host_can_dial_through_it(scheme: str) -> None:
    url = f"{scheme}://proxy.example:8080"
    try:
        proxy.validate(url)
    except ValidationError:
        with pytest.raises(upstream.DialError):
            upstream.parse_proxy(url)
    else:
        assert upstream.parse_proxy(url)[1:3] == ("proxy.example", 8080)


def test_pairing_with_a_wrong_number_is_one_sentence_and_asks_nothing(admin_client: Client) -> None:
    account = Account.objects.create(label="First")
    verb = reverse("admin:account_session", args=[account.pk, "pair"])
    page = admin_client.post(verb, {"phone": "12"}, follow=True)
    assert "is not a phone number" in page.content.decode()
    assert not SessionCommand.objects.exists()


@pytest.mark.parametrize("name", ["admin:account_pair", "admin:account_session"])
def test_an_unknown_account_is_not_found(admin_client: Client, name: str) -> None:
    for pk in (9999, 2**63 - 1, 10**40):
        arguments = [pk, "pair"] if name == "admin:account_session" else [pk]
        answer = admin_client.post(reverse(name, args=arguments))
        assert answer.status_code == 404


def test_the_pages_of_accounts_that_are_not_there_say_so(admin_client: Client) -> None:
    for text in ("9999", "x", "9" * 40):
        page = admin_client.get(f"/admin/accounts/account/{text}/change/", follow=True)
        assert page.status_code == 200
        assert "exist" in page.content.decode()


def test_a_full_page_takes_as_many_queries_as_two_accounts(admin_client: Client) -> None:
    online("a")
    Account.objects.create(label="b")
    admin_client.get(reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(LIST))
    for n in range(48):
        online(f"Account {n}")
    with CaptureQueriesContext(connection) as many:
        page = admin_client.get(reverse(LIST))
    assert len(many) == len(few)
    text = page.content.decode()
    assert text.count('data-state="connected"') == 49
    assert "Connected to WhatsApp since" in text
    assert "No phone is linked to this account yet." in text


def test_an_action_reaches_the_selected_rows_and_says_how_many(admin_client: Client) -> None:
    chosen = [online("a"), online("b"), Account.objects.create(label="c")]
    online("not chosen")
    page = admin_client.post(reverse(LIST), {
        "action": "restart", "_selected_action": [account.pk for account in chosen], "index": "0",
    }, follow=True)  # fmt: skip
    asked = SessionCommand.objects.values_list("session__account__label", "verb", "requester")
    assert sorted(asked) == [("a", "restart", "admin"), ("b", "restart", "admin")]
    assert "2 sessions were asked to restart." in page.content.decode()
    assert "1 account is not paired, so nothing was asked of it: pair it first." in page.content.decode()


def test_who_may_only_look_gets_no_action_and_no_button(client: Client) -> None:
    account = online("a")
    viewer = User.objects.create_user("budi", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_account"))
    client.force_login(viewer)
    page = client.post(reverse(LIST), {"action": "stop", "_selected_action": [account.pk], "index": "0"})
    assert page.status_code in (200, 302, 403)
    assert Account.objects.get().desired == "online"
    for verb in ("start", "stop", "restart", "logout", "pair", "cancel_pairing"):
        assert client.post(reverse("admin:account_session", args=[account.pk, verb])).status_code == 403
    assert client.get(reverse("admin:account_pair", args=[account.pk])).status_code == 403
    detail = client.get(reverse("admin:accounts_account_change", args=[account.pk])).content.decode()
    assert "Connected to WhatsApp since" in detail
    assert "account_session" not in detail
    assert "/session/" not in detail
