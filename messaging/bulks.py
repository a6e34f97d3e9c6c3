"""Making a bulk send: from a list of recipients or a CSV file, checked before the first message goes out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging.accept import check_account
from messaging.addresses import digits_of
from messaging.errors import Refused
from messaging.feeding import TEXTS
from messaging.kinds import Kind
from messaging.models import Bulk, BulkRecipient, Media, RecipientState
from messaging.templates import TemplateError, check, variables

MOST = 10_000
#: What a bulk send may be.
KINDS = (Kind.TEXT, Kind.IMAGE, Kind.VIDEO, Kind.DOCUMENT)
#: Longest value of a variable, and most variables of a recipient.
_VALUE, _VARIABLES = 1000, 50


@dataclass
class Person:
    """One recipient as given."""

    phone: str
    values: dict[str, str] = field(default_factory=dict)


def read_csv(data: bytes) -> list[Person]:
    """Return the recipients of a CSV file: a heading line with a column “phone”, the others are variables.

    Raises Refused. Comma, semicolon and tab are told apart by the heading line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("csv_invalid", "The file is not UTF-8: save it as “CSV UTF-8”.") from None
    heading = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=heading.count)
    try:
        rows = list(csv.reader(io.StringIO(text.replace("\x00", "")), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise Refused("csv_invalid", f"The file cannot be read as CSV: {error}.") from None
    names = [name.strip() for name in rows[0]] if rows else []
    lower = [name.lower() for name in names]
    if "phone" not in lower:
        raise Refused("csv_invalid")
    column = lower.index("phone")
    people = []
    for row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        values = {name: cell.strip() for name, cell in zip(names, row, strict=False) if name and name != names[column]}
        people.append(Person(row[column].strip() if column < len(row) else "", values))
    return people


def make_bulk(
    account: Account, name: str, kind: Kind, content: dict[str, Any], people: Sequence[Person], *, by: str,
    media: Media | None = None, api_key: ApiKey | None = None, send_at: datetime | None = None,
) -> Bulk:  # fmt: skip
    """Store a bulk send; it begins at once or at `send_at`. A recipient that cannot be served is refused by itself.

    Raises Refused when none could be: a wrong template, no recipients or too many, an account that cannot send.
    """
    check_account(account)
    if not people:
        raise Refused("csv_invalid", "There are no recipients.")
    if len(people) > MOST:
        raise Refused("too_many_recipients")
    try:
        for text in _texts(content):
            check(text)
    except TemplateError as error:
        raise Refused("template_invalid", str(error)) from None
    needed = {name for text in _texts(content) for name in variables(text)}
    with transaction.atomic():
        if media is not None and media.pk is None:
            media.save()
        bulk = Bulk.objects.create(account=account, name=name, kind=kind, content=content, media=media,
                                   created_by=by[:150], api_key=api_key, send_at=send_at or timezone.now())  # fmt: skip
        BulkRecipient.objects.bulk_create(_recipients(bulk, people, needed), batch_size=200)
    return bulk


def _recipients(bulk: Bulk, people: Iterable[Person], needed: set[str]) -> Iterable[BulkRecipient]:
    seen: set[str] = set()
    for person in people:
        kept = {name: str(value)[:_VALUE] for name, value in list(person.values.items())[:_VARIABLES] if name in needed}
        state, error = RecipientState.WAITING, ""
        try:
            phone = digits_of(person.phone)
        except Refused as refused:
            phone, state, error = person.phone[:20] or "?", RecipientState.REFUSED, refused.sentence
        if phone in seen:  # a person gets one message, however often the list has the number
            continue
        seen.add(phone)
        yield BulkRecipient(bulk=bulk, phone=phone, variables=kept, state=state, error=error)


def _texts(content: dict[str, Any]) -> list[str]:
    return [str(content[name]) for name in TEXTS if content.get(name)]
