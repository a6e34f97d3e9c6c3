"""What a migration moves is there afterwards."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging.accept import accept_once
from messaging.errors import Refused
from messaging.kinds import Kind
from messaging.models import Chat, Message

BODY = {"kind": "text", "to": "6281200000002", "text": "Halo", "media": None}


def migrated(name: str) -> Any:
    """Bring the tables of messages to this migration and return the models as they are there."""
    executor = MigrationExecutor(connection)
    executor.migrate([("messaging", name)])
    return executor.loader.project_state([("messaging", name)]).apps.get_model


@pytest.mark.django_db(transaction=True)
def test_an_idempotency_key_outlives_its_table() -> None:
    account = Account.objects.create(label="Kantor", phone="6281200000001", desired="online")
    account.session.__class__.objects.update(state="connected", store="x.sqlite3")
    key, _secret = ApiKey.make("shop", ["send"])
    chat = Chat.objects.of(account, "6281200000002@s.whatsapp.net")
    new, old = (Message.queue(chat, Kind.TEXT, {"text": "Halo"}, api_key=key) for _ in range(2))
    try:
        keys = migrated("0004_media_by_state")("messaging", "IdempotencyKey")
        for name, message, age in (("new", new, 1), ("old", old, 25)):
            body = hashlib.sha256(name.encode()).hexdigest()
            keys.objects.create(api_key_id=key.pk, key=name, body_hash=body, message_id=message.pk,
                                created_at=timezone.now() - timedelta(hours=age))  # fmt: skip
    finally:
        migrated("0005_once")
    account = Account.objects.get()
    assert accept_once(account, BODY, b"new", "new", key) == (new, False)
    with pytest.raises(Refused) as refused:  # the same key, with another body
        accept_once(account, BODY, b"other", "new", key)
    assert refused.value.code == "idempotency_conflict"
    again, is_new = accept_once(account, BODY, b"old", "old", key)
    assert is_new
    assert again != old
