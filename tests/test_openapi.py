"""The OpenAPI document against the API itself, by schemathesis: no 5xx, no status and no content that is not in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from accounts.models import Account, ApiKey, Scope
from messaging.bulks import Person, make_bulk
from messaging.kinds import Kind
from messaging.models import Ask, Chat, HostRequest, Message, WebhookEndpoint
from sessions_app.models import Session

schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())


_ANSWERS: dict[Ask, dict[str, Any]] = {
    Ask.CONTACTS: {"contacts": []}, Ask.PICTURE: {"url": "https://example.org/p.jpg", "id": "1"},
    Ask.GROUPS: {"groups": [{"jid": "120363000000000000@g.us", "name": "Team", "size": 2}]},
    Ask.GROUP: {"jid": "120363000000000000@g.us", "participants": [{"jid": "1@lid", "lid": "1@lid", "admin": True}]},
    Ask.TYPING: {}, Ask.PRESENCE: {},
}  # fmt: skip
#: Random examples per operation, beside the boundary values of each field.
_EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "5"))


@pytest.fixture(scope="module")
def key(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """Rows with the ids that examples like to use, under one key; taken back at the end."""
    with django_db_blocker.unblock(), transaction.atomic():
        for n in (1, 2):
            account = Account(pk=n, label=f"Account {n}")
            account.save(force_insert=True)
            Session.objects.filter(account=account).update(state="connected", store="x")
            chat = Chat.objects.of(account, f"628120000000{n}@s.whatsapp.net")
            Message.receive(chat, "A1", Kind.TEXT, {"text": "hi"}, timezone.now(), sender_phone=f"628120000000{n}")
            Message.queue(chat, Kind.TEXT, {"text": "hello"})
            make_bulk(Account.objects.get(pk=n), "News", Kind.TEXT, {"text": "hi"}, [Person("+6281200000001")], by="me")
            WebhookEndpoint.objects.create(url="https://example.org/").send_test()
        # As Django's test client does: the connection belongs to the test.
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
        yield ApiKey.make("fuzz", list(Scope))[1]
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """No name is looked up, no caller slowed down, and a host answers what it is asked."""

    look_up = socket.getaddrinfo

    def unknown(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "127.0.0.1":  # the cache, when that is Redis
            return look_up(host, *args, **kwargs)
        raise socket.gaierror

    monkeypatch.setattr("messaging.outgoing.socket.getaddrinfo", unknown)
    def answer(seconds: float) -> None:
        for request in HostRequest.objects.open(timezone.now()):
            request.finish(_ANSWERS[Ask(request.ask)])

    monkeypatch.setattr("messaging.api.asking.time.sleep", answer)
    monkeypatch.setattr("messaging.api.messages._wait", lambda message, seconds: False)
    settings.API_RATE = settings.API_ACCOUNT_RATE = settings.API_FAILURES = 10**9
    cache.clear()


@schema.parametrize()
@hypothesis.settings(max_examples=_EXAMPLES, deadline=None, derandomize=True, database=None,
                     suppress_health_check=list(HealthCheck))  # fmt: skip
def test_the_api_does_what_its_document_says(case: Any, key: str, db: None) -> None:
    # Rules a schema cannot say (a past time, a private address) make well-formed requests wrong, and a parameter that
    # nobody knows is let pass, as everywhere on the web.
    known = [positive_data_acceptance, negative_data_rejection]
    case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, excluded_checks=known)
