"""Bulk sends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, File, Form, Query, Router, Schema, Status
from ninja.files import UploadedFile

from messaging.accept import file_of
from messaging.api.auth import READ, SEND, account_of, key_of, reachable_accounts
from messaging.api.paging import Cursor, Id, Limit, Page, page
from messaging.api.problems import documented
from messaging.api.schemas import Caption, Clean, In, MediaIn, Name, Number, Text, Time
from messaging.bulks import KINDS, MOST, Person, make_bulk, read_csv
from messaging.errors import Refused
from messaging.kinds import Kind
from messaging.models import Bulk, BulkRecipient, RecipientState

router = Router(tags=["bulk sends"])

BulkKind = Literal["text", "image", "video", "document"]
assert BulkKind.__args__ == KINDS  # type: ignore[attr-defined]
Value = Annotated[str, Field(max_length=1000), Clean]


class RecipientIn(In):
    """One person, and the values of the template's variables."""

    phone: Number
    variables: Annotated[dict[Annotated[str, Field(max_length=40)], Value], Field(max_length=50)] = {}


class BulkIn(In):
    """A text or a file for many people. `{{name}}` is a variable, `{Hi|Hello}` one of its parts at random."""

    account_id: Id
    name: Name
    kind: BulkKind = "text"
    text: Annotated[Text | None, Field(examples=["{Hi|Hello} {{name}}, your order is ready."])] = None
    caption: Caption = ""
    media: MediaIn | None = None
    recipients: Annotated[list[RecipientIn], Field(min_length=1, description=f"At most {MOST:,}.")]
    send_at: Time | None = None


class ProgressOut(Schema):
    """Recipients by what became of them."""

    total: int = 0
    waiting: int = 0
    refused: int = 0
    queued: int = 0
    sending: int = 0
    sent: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    uncertain: int = 0
    cancelled: int = 0


class BulkOut(Schema):
    """A bulk send."""

    id: int
    account_id: int
    name: str
    state: Literal["running", "paused", "done", "cancelled"]
    progress: ProgressOut
    created_at: datetime
    send_at: datetime
    finished_at: datetime | None = None


class RecipientOut(Schema):
    """What became of one recipient: `state` is their message's, or `waiting`, or `refused` with `error`."""

    phone: str
    state: str
    message_id: int | None = None
    error: str = ""


@router.post("/bulks", auth=SEND, response={201: BulkOut, **documented(409)}, summary="Begin a bulk send")
def begin_bulk(request: HttpRequest, payload: BulkIn) -> Any:
    """Its messages go out by the account's pacing. A recipient that cannot be served is refused by itself."""
    account = account_of(request, payload.account_id, sending=True)
    kind = Kind(payload.kind)
    file = None
    if kind is Kind.TEXT:
        if payload.text is None or payload.media is not None:
            raise Refused("invalid_request", "A bulk send of kind “text” has a `text` and no `media`.")
        content: dict[str, Any] = {"text": payload.text, "mentions": [], "preview": False}
    else:
        if payload.media is None or payload.text is not None:
            raise Refused("media_missing", "A bulk send of a file has `media`, a `caption` if you like, and no `text`.")
        content = {"caption": payload.caption}
        if kind is Kind.DOCUMENT:
            content["filename"] = payload.media.filename
        file = file_of(kind, payload.media.model_dump(), key_of(request))
    people = [Person(one.phone, one.variables) for one in payload.recipients]
    _check_begin(payload.send_at)
    key = key_of(request)
    bulk = make_bulk(account, payload.name, kind, content, people, by=key.name, media=file, api_key=key,
                     send_at=payload.send_at)  # fmt: skip
    return Status(201, bulk_body(bulk))


class CsvIn(Schema):
    """What goes with a CSV file."""

    account_id: Id
    name: Name
    text: Text


@router.post("/bulks/csv", auth=SEND, response={201: BulkOut, **documented(409)}, summary="Begin a bulk send from CSV")
def begin_bulk_from_csv(
    request: HttpRequest, payload: Annotated[CsvIn, Form()],
    file: Annotated[UploadedFile, File(description="UTF-8, a heading line with “phone”; other columns are variables.")],
) -> Any:  # fmt: skip
    """As above; the file has a line per recipient."""
    account = account_of(request, payload.account_id, sending=True)
    key = key_of(request)
    content = {"text": payload.text, "mentions": [], "preview": False}
    bulk = make_bulk(account, payload.name, Kind.TEXT, content, read_csv(file.read()), by=key.name, api_key=key)
    return Status(201, bulk_body(bulk))


@router.get("/bulks", auth=READ, response={200: Page[BulkOut], **documented()}, summary="List bulk sends")
def list_bulks(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50,
               account_id: Annotated[Id | None, Query()] = None) -> Any:  # fmt: skip
    """The newest first."""
    rows = Bulk.objects.filter(account__in=reachable_accounts(request))
    return page(rows.filter(account_id=account_id) if account_id else rows, cursor, limit, bulk_body)


@router.get("/bulks/{bulk_id}", auth=READ, response={200: BulkOut, **documented()}, summary="Get a bulk send")
def get_bulk(request: HttpRequest, bulk_id: Id) -> Any:
    """With its progress."""
    return bulk_body(bulk_of(request, bulk_id))


@router.get("/bulks/{bulk_id}/recipients", auth=READ, response={200: Page[RecipientOut], **documented()},
            summary="Results per recipient")  # fmt: skip
def list_recipients(request: HttpRequest, bulk_id: Id, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """In the order given."""
    rows = bulk_of(request, bulk_id).recipients.select_related("message")
    return page(rows, cursor, limit, recipient_body, newest_first=False)


@router.post("/bulks/{bulk_id}/{verb}", auth=SEND, response={200: BulkOut, **documented(409)},
             summary="Pause, resume or cancel")  # fmt: skip
def control_bulk(request: HttpRequest, bulk_id: Id, verb: Literal["pause", "resume", "cancel"]) -> Any:
    """`pause` makes no more messages, those queued (at most 20) go out; `cancel` takes them back too."""
    bulk = bulk_of(request, bulk_id)
    verbs: dict[str, Callable[[], bool]] = {
        "pause": bulk.pause, "resume": bulk.resume, "cancel": lambda: bulk.cancel(key_of(request).name),
    }  # fmt: skip
    if not verbs[verb]():
        raise Refused("wrong_state", f"It is {Bulk.objects.get(pk=bulk.pk).state}.")
    return bulk_body(bulk)


def bulk_of(request: HttpRequest, pk: int) -> Bulk:
    """Return a bulk send of an account this key may use. Raises Refused."""
    bulk = Bulk.objects.filter(pk=pk).first()
    if bulk is None or not key_of(request).reaches(bulk.account_id):
        raise Refused("not_found", f"There is no bulk send {pk} for this key.")
    return bulk


def bulk_body(bulk: Bulk) -> dict[str, Any]:
    """Return a bulk send as JSON."""
    return {
        "id": bulk.pk, "account_id": bulk.account_id, "name": bulk.name, "state": bulk.state,
        "progress": bulk.progress(), "created_at": bulk.created_at, "send_at": bulk.send_at,
        "finished_at": bulk.finished_at,
    }  # fmt: skip


def recipient_body(recipient: BulkRecipient) -> dict[str, Any]:
    """Return a recipient as JSON."""
    message = recipient.message
    as_given = message is None and recipient.state == RecipientState.REFUSED
    return {
        "phone": recipient.phone if as_given else f"+{recipient.phone}",
        "state": message.state if message else recipient.state, "message_id": recipient.message_id,
        "error": recipient.error or (message.error if message else ""),
    }  # fmt: skip


def _check_begin(send_at: datetime | None) -> None:
    if send_at is not None and send_at <= timezone.now():
        raise Refused("send_at_past")
