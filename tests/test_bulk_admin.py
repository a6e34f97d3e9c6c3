"""Bulk sends in the admin: begun from a CSV file, with a text or a file, and their results."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings  # type: ignore[attr-defined]

from accounts.models import Account
from messaging.bulks import KINDS
from messaging.kinds import CAPTION_MAX
from messaging.models import Bulk, Media, Message
from messaging.tidying import UNSENT, tidy
from tests.test_message_admin import act
from tests.test_webhooks import PNG, connected, feed

pytestmark = pytest.mark.django_db

PEOPLE = b"phone,name\n0812-0000-0001,Siti\n12,Budi\n"


@pytest.fixture(autouse=True)
def _files(settings: Settings, tmp_path: Path) -> None:
    settings.MEDIA_DIR = tmp_path


@pytest.fixture
def account(db: None) -> Account:
    return connected("Front office")


def csv(data: bytes = PEOPLE) -> SimpleUploadedFile:
    return SimpleUploadedFile("people.csv", data, "text/csv")


def picture(data: bytes = PNG, name: str = "shop.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, "image/png")


def begin(client: Client, account: Account, **more: Any) -> Any:
    """Send the form; a field that is None is left out."""
    fields = {"account": account.pk, "name": "News", "kind": "text", "text": "Hi {{name}}", "file": csv()} | more
    sent = {name: value for name, value in fields.items() if value is not None}
    return client.post(reverse("admin:messaging_bulk_add"), sent)


def errors(page: Any) -> dict[str, list[str]]:
    return dict(page.context["adminform"].form.errors)


def kept(page: Any) -> dict[str, str]:
    """Return what the page's boxes of kept files send."""
    found = re.findall(r'type="checkbox" name="(\w+-kept)" value="([^"]+)" checked', page.content.decode())
    return dict(found)


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
    for changes, field in (({"file": csv(b"name\nSiti\n")}, "file"), ({"text": "{Hi"}, "text"), ({"text": ""}, "text")):
        page = begin(admin_client, account, **changes)
        assert page.context["adminform"].form.errors[field]
    Account.objects.update(desired="offline")
    assert begin(admin_client, account).context["adminform"].form.errors["account"]
    assert Bulk.objects.count() == 0


# -- with a file


@pytest.mark.parametrize(
    ("kind", "file", "mime", "content"),
    [
        ("image", picture(), "image/png", {"caption": "Hi {{name}}"}),
        ("video", picture(b"\0\0\0\x18ftypmp42" + b"\0" * 20, "tour.mp4"), "video/mp4", {"caption": "Hi {{name}}"}),
        ("document", SimpleUploadedFile("prices.xyz", b"anything", "application/x-prices"), "application/x-prices",
         {"caption": "Hi {{name}}", "filename": "prices.xyz"}),
    ],
)  # fmt: skip
def test_a_file_goes_out_with_its_caption(
    admin_client: Client, account: Account, kind: str, file: SimpleUploadedFile, mime: str, content: dict[str, str]
) -> None:
    file.seek(0)
    assert begin(admin_client, account, kind=kind, attachment=file).status_code == 302
    bulk = Bulk.objects.get()
    assert (bulk.kind, bulk.content) == (kind, content)
    feed()
    message = Message.objects.get()
    assert (message.kind, message.text, message.content["caption"]) == (kind, "Hi Siti", "Hi Siti")
    assert message.media is not None
    file.seek(0)
    assert (message.media.mime, message.media.read(), message.media.name) == (mime, file.read(), file.name)
    page = admin_client.get(reverse("admin:messaging_bulk_change", args=[bulk.pk])).content.decode()
    assert f": {file.name}</a>" in page
    assert "/api/v1/media/" in page


def test_a_caption_may_be_empty_and_not_too_long(admin_client: Client, account: Account) -> None:
    long = begin(admin_client, account, kind="image", attachment=picture(), text="x" * (CAPTION_MAX + 1))
    assert errors(long)["text"] == ["A caption has at most 4096 characters."]
    assert begin(admin_client, account, kind="image", attachment=picture(), text="").status_code == 302
    assert Bulk.objects.get().content == {"caption": ""}


def test_the_kinds_are_those_of_the_api(admin_client: Client) -> None:
    form = admin_client.get(reverse("admin:messaging_bulk_add")).context["adminform"].form
    assert [value for value, _name in form.fields["kind"].choices] == list(KINDS)


def test_a_file_is_checked_as_the_api_checks_it(admin_client: Client, account: Account, settings: Settings) -> None:
    settings.MEDIA_MAX_BYTES = 1_000_000
    wrong = "The file is not what this kind of message carries."
    for kind, file, field, words in (
        ("video", picture(), "attachment", wrong),
        ("image", picture(b"%PDF-1.4", "really.png"), "attachment", wrong),
        ("image", picture(b""), "attachment", "The submitted file is empty."),
        ("document", picture(b"x" * 1_000_001), "attachment", "The file is larger than 1 MB."),
        ("image", None, "attachment", "Choose the file to send."),
        ("text", picture(), "kind", "A text carries no file: choose what the file is to be sent as."),
        ("audio", picture(), "kind", "Select a valid choice. audio is not one of the available choices."),
    ):
        page = begin(admin_client, account, kind=kind, attachment=file)
        assert errors(page) == {field: [words]}
    assert Bulk.objects.count() == 0
    assert not Media.objects.filter(size__gt=1_000_000).exists()


def test_files_are_kept_when_something_else_is_wrong(admin_client: Client, account: Account) -> None:
    page = begin(admin_client, account, kind="image", attachment=picture(), name="")
    assert list(errors(page)) == ["name"]
    assert "shop.png (28" in page.content.decode()
    # a second fault, in the text, and still nothing is to be chosen again
    page = begin(admin_client, account, kind="image", text="{Hi", file=None, **kept(page))
    assert list(errors(page)) == ["text"]
    assert begin(admin_client, account, kind="image", file=None, **kept(page)).status_code == 302
    bulk = Bulk.objects.get()
    assert bulk.progress()["total"] == 2
    assert bulk.media is not None
    assert (bulk.media.name, bulk.media.read()) == ("shop.png", PNG)


def test_a_kept_file_is_replaced_and_let_go_of(admin_client: Client, account: Account) -> None:
    page = begin(admin_client, account, kind="video", attachment=picture())
    other = picture(PNG + b"2", "other.png")
    assert begin(admin_client, account, kind="image", attachment=other, **kept(page)).status_code == 302
    assert str(Bulk.objects.get().media) == "other.png"
    unticked = {name: token for name, token in kept(page).items() if name != "attachment-kept"}
    assert begin(admin_client, account, kind="text", file=None, **unticked).status_code == 302
    assert Bulk.objects.latest("pk").media is None
    page = begin(admin_client, account, file=None)
    assert errors(page) == {"file": ["This field is required."]}


def test_what_is_kept_is_signed_and_ends_before_the_file_does(admin_client: Client, account: Account) -> None:
    page = begin(admin_client, account, kind="image", attachment=picture(), name="")
    boxes = kept(page)
    for token in ("1", "", boxes["attachment-kept"] + "x", "x" * 5000):
        forged = begin(admin_client, account, kind="image", **{"attachment-kept": token})
        assert errors(forged) == {"attachment": ["Choose the file to send."]}
    with time_machine.travel(timezone.now() + UNSENT / 2 + timedelta(minutes=1)):
        late = begin(admin_client, account, kind="image", **boxes)
        assert errors(late) == {"attachment": ["Choose the file to send."]}
        assert tidy(timezone.now())["files"] == 0
    assert begin(admin_client, account, kind="image", **boxes).status_code == 302
    tidy(timezone.now() + 2 * UNSENT)
    bulk = Bulk.objects.get()
    assert Media.objects.get() == bulk.media  # what was put aside is gone, what is sent stays
    assert bulk.media is not None
    assert bulk.media.read() == PNG
