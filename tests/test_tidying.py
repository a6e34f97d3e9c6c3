"""What has outlived its time goes, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from messaging.kinds import Kind
from messaging.models import (
    Ask,
    Chat,
    Delivery,
    DeliveryState,
    Event,
    EventKind,
    HostRequest,
    Media,
    Message,
    WebhookEndpoint,
)
from messaging.tidying import tidy
from sessions_app import jobs

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def chat() -> Chat:
    return Chat.objects.of(Account.objects.create(label="a"), "6281200000001@s.whatsapp.net")


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_DIR = tmp_path


def message(chat: Chat, age: timedelta, **fields: Any) -> Message:
    row = Message.queue(chat, Kind.TEXT, {"text": "x"}, media=fields.pop("media", None))
    Message.objects.filter(pk=row.pk).update(created_at=timezone.now() - age, **{"state": "sent"} | fields)
    return row


def test_old_messages_go_and_what_is_still_queued_stays(chat: Chat, now: datetime, settings: Any) -> None:
    long = settings.MESSAGE_RETENTION + DAY
    old, queued, young = message(chat, long), message(chat, long, state="queued"), message(chat, DAY)
    assert tidy(now)["messages"] == 1
    assert set(Message.objects.all()) == {queued, young}
    assert old not in Message.objects.all()


def test_files_go_with_their_time_and_shared_bytes_with_their_last_reader(
    chat: Chat, now: datetime, settings: Any
) -> None:
    first, second = Media.store(b"same", "text/plain"), Media.store(b"same", "text/plain")
    Media.objects.update(created_at=now - 2 * DAY)
    old = message(chat, settings.MEDIA_RETENTION + DAY, media=first)
    young = message(chat, DAY, media=second)
    counts = tidy(now)
    assert (counts["unlinked"], counts["files"]) == (1, 0)
    old.refresh_from_db()
    assert old.media is None
    assert second.read() == b"same"
    young.delete()
    assert tidy(now)["files"] == 1
    assert not second.file.exists()


def test_an_upload_waits_a_day_for_its_message(now: datetime) -> None:
    media = Media.store(b"new", "text/plain")
    assert tidy(now)["files"] == 0
    assert tidy(now + 2 * DAY)["files"] == 1
    assert not media.file.exists()


def test_deliveries_events_and_requests_go_but_nothing_that_waits(
    chat: Chat, now: datetime, settings: Any
) -> None:
    endpoint = WebhookEndpoint.objects.create(url="https://example.org/")
    long_ago = now - settings.EVENT_RETENTION - DAY
    for state in (DeliveryState.PENDING, DeliveryState.DELIVERED):
        event = Event.append(EventKind.SESSION, chat.account_id, {}, at=long_ago)
        delivery = Delivery.objects.create(endpoint=endpoint, event=event, state=state)
        Delivery.objects.filter(pk=delivery.pk).update(created_at=long_ago)
    HostRequest.put(chat.account, Ask.GROUPS, {}, DAY)
    HostRequest.objects.update(created_at=now - 2 * DAY)
    counts = tidy(now)
    assert counts | {"deliveries": 1, "events": 1, "requests": 1} == counts
    assert Delivery.objects.get().state == DeliveryState.PENDING
    assert Event.objects.count() == 1


def test_it_is_a_job() -> None:
    assert jobs.run("tidy_messages")["messages"] == 0
