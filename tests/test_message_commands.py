"""create_api_key, messages and webhooks on the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging.models import Delivery, DeliveryState, Event, EventKind, Message, WebhookEndpoint
from tests.test_commands import run
from tests.test_webhooks import connected

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return connected("Front office")


def told(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_key_is_printed_alone_on_stdout(account: Account) -> None:
    secret = told("create_api_key", "shop", "--scopes", "read", "--accounts", "Front office", "--expires", "90d")
    key = ApiKey.objects.opened_by(secret.removesuffix("\n"), timezone.now())
    assert key is not None
    assert (key.scopes, list(key.accounts.all()), key.limited) == (["read"], [account], True)
    assert key.expires_at is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop"], "already exists"), (["b", "--scopes", "fly"], "“fly” is no scope"),
        (["b", "--scopes", ","], "at least"),
        (["b", "--accounts", "Nobody"], "no account “Nobody”"), (["b", "--expires", "soon"], "“soon” is no time"),
        (["b", "--expires", "2001-01-01"], "expired already"), ([" "], "blank"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_with_a_sentence(account: Account, arguments: list[str], words: str) -> None:
    ApiKey.make("shop", ["read"])
    with pytest.raises(CommandError, match=words):
        told("create_api_key", *arguments)
    assert ApiKey.objects.count() == 1


def test_a_message_is_sent_listed_and_retried(account: Account, tmp_path: Path) -> None:
    [sent] = json.loads(told("messages", "send", "Front office", "0812-0000-0001", "hello", "--json"))
    assert sent["state"] == "queued"
    assert "hello" in told("messages", "list", "--state", "queued", "--account", "Front office")
    Message.objects.update(state="uncertain")
    with pytest.raises(CommandError, match="may arrive twice"):
        told("messages", "retry", str(sent["id"]))
    told("messages", "retry", str(sent["id"]), "--yes")
    assert Message.objects.get().state == "queued"
    with pytest.raises(CommandError, match="0 queued again"):
        told("messages", "retry", str(sent["id"]))
    Message.objects.update(state="failed")
    assert json.loads(told("messages", "retry", "--failed", "--json"))[0]["id"] == sent["id"]
    file = tmp_path / "a.pdf"
    file.write_bytes(b"%PDF-1.7")
    sending = ["send", "Front office", "0812-0000-0001", "see", "--file", str(file), "--json"]
    [document] = json.loads(told("messages", *sending))
    assert (document["kind"], document["media"]["mime"], document["content"]["filename"]) == (
        "document", "application/pdf", "a.pdf")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Nobody", "0812-0000-0001", "x"], "no account “Nobody”"), (["Front office", "12", "x"], "not a phone number"),
        (["Front office", "0812-0000-0001"], "nothing to send"),
        (["Front office", "0812-0000-0001", "--file", "/nowhere"], "cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_refused_with_a_sentence(account: Account, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        told("messages", "send", *arguments)
    assert Message.objects.count() == 0


def test_waiting_has_an_end(account: Account) -> None:
    with pytest.raises(CommandError, match="still queued") as late:
        told("messages", "send", "Front office", "0812-0000-0001", "x", "--wait", "0.3")
    assert late.value.returncode == 3


def test_webhooks_are_listed_and_replayed(account: Account) -> None:
    endpoint = WebhookEndpoint.objects.create(url="https://example.org/hook")
    event = Event.append(EventKind.SESSION, account.pk, {})
    Event.objects.publish()
    delivery = Delivery.objects.create(endpoint=endpoint, event=event, account=account, state=DeliveryState.DEAD)
    assert "given up 1" in told("webhooks", "list")
    [shown] = json.loads(told("webhooks", "list", "--json"))
    assert (shown["pending"], shown["dead"], "secret" in shown) == (0, 1, False)
    for arguments in (["--dead"], ["--delivery", str(delivery.pk)], ["--since", "2001-01-01T00:00:00Z"]):
        assert json.loads(told("webhooks", "replay", str(endpoint.pk), *arguments, "--json")) == {"queued": 1}
    assert Delivery.objects.filter(replay=True, state=DeliveryState.PENDING).count() == 3
    for wrong, words in ((["99", "--dead"], "no webhook 99"), ([str(endpoint.pk)], "one of"),
                         ([str(endpoint.pk), "--since", "soon"], "no time"),
                         ([str(endpoint.pk), "--delivery", "99"], "no finished delivery")):  # fmt: skip
        with pytest.raises(CommandError, match=words):
            told("webhooks", "replay", *wrong)


def test_without_a_database_it_is_one_sentence(tmp_path: Any) -> None:
    for command in (["create_api_key", "x"], ["messages", "list"], ["webhooks", "list"]):
        answer = run(*command, VAR_DIR=str(tmp_path), DATABASE_URL=f"sqlite:///{tmp_path}/none.sqlite3")
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
