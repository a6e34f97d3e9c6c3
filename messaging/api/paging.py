"""Pages by cursor: stable while rows are added, whatever their number."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from django.db import models
from ninja import Field, Query, Schema

from messaging.errors import Refused

M = TypeVar("M", bound=models.Model)
T = TypeVar("T")

Id = Annotated[int, Field(ge=1, le=2**63 - 1, examples=[1])]
Cursor = Annotated[str, Query(max_length=80, description="`next` of the answer before; leave out to begin.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Items per page.")]


class Page(Schema, Generic[T]):
    """One page; `next` is null on the last one."""

    items: list[T]
    next: str | None = None


def page(rows: models.QuerySet[M], cursor: str, limit: int, show: Callable[[M], Any], *,
         newest_first: bool = True) -> dict[str, Any]:  # fmt: skip
    """Return one page by id. Raises Refused for a cursor that is not ours."""
    if cursor:
        after = read(cursor)
        rows = rows.filter(pk__lt=after) if newest_first else rows.filter(pk__gt=after)
    found = list(rows.order_by("-pk" if newest_first else "pk")[: limit + 1])
    more = len(found) > limit
    return {"items": [show(row) for row in found[:limit]], "next": write(found[limit - 1].pk) if more else None}


def write(pk: int) -> str:
    """Return the cursor that stands for an id."""
    return base64.urlsafe_b64encode(f"p{pk}".encode()).decode().rstrip("=")


def read(cursor: str) -> int:
    """Return the id a cursor stands for. Raises Refused."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        raise Refused("invalid_cursor") from None
    if not (text[:1] == "p" and text[1:].isascii() and text[1:].isdigit() and len(text) < 20):
        raise Refused("invalid_cursor")
    return min(int(text[1:]), 2**63 - 1)
