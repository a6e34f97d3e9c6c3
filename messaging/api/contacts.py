"""What only WhatsApp knows: contacts, groups, presence. Answered by the session host."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Path, Query, Router, Schema, Status
from pydantic import Field

from messaging.addresses import USER, digits_of, is_group, jid_of
from messaging.api.asking import ask
from messaging.api.auth import READ, SEND, account_of
from messaging.api.paging import Id
from messaging.api.problems import documented
from messaging.api.schemas import Address, In, Number
from messaging.errors import Refused
from messaging.models import Ask, Chat

router = Router()

_HOST = (409, 502, 504)


class ContactsIn(In):
    """Which numbers to look up."""

    account_id: Id
    phones: Annotated[list[Number], Field(min_length=1, max_length=50)]


class ContactOut(Schema):
    """Whether a number is on WhatsApp."""

    phone: str = Field(examples=["+6281200000001"])
    on_whatsapp: bool
    jid: str | None = None
    lid: str | None = None
    name: str = ""


class ContactsOut(Schema):
    """In the order asked."""

    items: list[ContactOut]


class PictureOut(Schema):
    """`url` is WhatsApp's own and expires; null when there is no picture or it is not for us."""

    url: str | None = None
    id: str | None = None


class GroupOut(Schema):
    """A group the account is in."""

    jid: str = Field(examples=["120363000000000000@g.us"])
    name: str = ""
    topic: str = ""
    owner: str | None = None
    created_at: str | None = None
    size: int | None = None


class ParticipantOut(Schema):
    """A member."""

    jid: str
    phone: str | None = None
    lid: str | None = None
    admin: bool = False


class GroupDetailOut(GroupOut):
    """With its members."""

    participants: list[ParticipantOut] = []


class GroupsOut(Schema):
    """All of them: WhatsApp gives no pages."""

    items: list[GroupOut]


class TypingIn(In):
    """What to show in a chat."""

    account_id: Id
    to: Address
    state: Literal["composing", "recording", "paused"] = "composing"


class DoneOut(Schema):
    """It was done."""

    done: bool = True


@router.post("/contacts/check", auth=READ, response={200: ContactsOut, **documented(*_HOST)}, tags=["contacts"],
             summary="Are these numbers on WhatsApp?")  # fmt: skip
def check(request: HttpRequest, payload: ContactsIn) -> Any:
    """Asks WhatsApp. What it says of a number without an account is remembered for 24 hours."""
    account = account_of(request, payload.account_id, sending=True)
    phones = [digits_of(number) for number in payload.phones]
    found = {row["phone"]: row for row in ask(account, Ask.CONTACTS, phones=phones).get("contacts", [])}
    absent = [number for number in phones if number in found and not found[number].get("on_whatsapp")]
    Chat.objects.filter(account=account, phone__in=absent).update(absent_at=timezone.now())
    Chat.objects.filter(account=account, phone__in=set(phones) - set(absent)).update(absent_at=None)
    return {"items": [_contact(number, found.get(number, {})) for number in phones]}


@router.get("/contacts/{phone}/picture", auth=READ, response={200: PictureOut, **documented(*_HOST)},
            tags=["contacts"], summary="Profile picture")  # fmt: skip
def picture(
    request: HttpRequest, phone: Annotated[str, Path(max_length=40)], account_id: Annotated[Id, Query()]
) -> Any:  # fmt: skip
    """Of a person."""
    account = account_of(request, account_id)
    answer = ask(account, Ask.PICTURE, jid=f"{digits_of(phone)}@{USER}")
    return {"url": answer.get("url") or None, "id": answer.get("id") or None}


@router.get("/groups", auth=READ, response={200: GroupsOut, **documented(*_HOST)}, tags=["groups"],
            summary="List groups")  # fmt: skip
def list_groups(request: HttpRequest, account_id: Annotated[Id, Query()]) -> Any:
    """The groups an account is in. Send to one by its `jid`."""
    return {"items": ask(account_of(request, account_id), Ask.GROUPS).get("groups", [])}


@router.get("/groups/{jid}", auth=READ, response={200: GroupDetailOut, **documented(*_HOST)}, tags=["groups"],
            summary="Get a group")  # fmt: skip
def get_group(
    request: HttpRequest, jid: Annotated[str, Path(max_length=80)], account_id: Annotated[Id, Query()]
) -> Any:  # fmt: skip
    """With its members."""
    account = account_of(request, account_id)
    address = jid_of(jid)
    if not is_group(address):
        raise Refused("invalid_address", "This is not the address of a group (…@g.us).")
    return ask(account, Ask.GROUP, jid=address)


@router.post("/presence", auth=SEND, response={200: DoneOut, **documented(*_HOST)}, tags=["presence"],
             summary="Show typing")  # fmt: skip
def show_typing(request: HttpRequest, payload: TypingIn) -> Any:
    """Show “typing…” or “recording audio…” in a chat; it fades after some seconds, or with `paused`."""
    account = account_of(request, payload.account_id, sending=True)
    ask(account, Ask.TYPING, jid=jid_of(payload.to), state=payload.state)
    return Status(200, {"done": True})


def _contact(number: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"phone": f"+{number}", "on_whatsapp": bool(row.get("on_whatsapp")), "jid": row.get("jid") or None,
            "lid": row.get("lid") or None, "name": row.get("name") or ""}  # fmt: skip
