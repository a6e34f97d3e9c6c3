"""Accounts and their sessions: make, pair, start, stop, restart, log out, look at."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Annotated, Any, Literal

import segno
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema, Status
from pydantic import StrictBool

from accounts.models import Account
from messaging.addresses import digits_of
from messaging.api.auth import MANAGE, READ, account_of, key_of, reachable_accounts
from messaging.api.paging import Cursor, Id, Limit, Page, page
from messaging.api.problems import documented
from messaging.api.schemas import Clean, In, Name, Number
from messaging.errors import CATALOGUE, Refused
from sessions_app.explanations import explain
from sessions_app.models import Session
from sessions_app.snapshot import qr_svg
from sessions_app.states import NEEDS_PAIRING

router = Router(tags=["accounts"])


class AccountIn(In):
    """A new account."""

    label: Annotated[Name, Field(max_length=80, examples=["Front office"])]
    phone: Annotated[Number, Field(description="Accept only the phone with this number.")] = ""
    proxy: Annotated[str, Field(max_length=300, description="http://… or socks5://…, for it alone."), Clean] = ""
    important: StrictBool = False


class SessionOut(Schema):
    """The connection of an account, with what it means and what to do about it."""

    account_id: int
    state: str = Field(examples=["connected"])
    stale: bool = Field(description="Its host gave no sign of life: the state may be old.")
    sentence: str
    what_to_do: str = ""
    code: int | None = None
    retry_at: datetime | None = None
    connected_at: datetime | None = None
    push_name: str = ""
    lid: str | None = None


class AccountOut(Schema):
    """An account."""

    id: int
    label: str
    phone: str | None = Field(None, examples=["+6281200000001"])
    desired: Literal["online", "offline"]
    important: bool
    created_at: datetime
    session: SessionOut


class PairIn(In):
    """How to pair."""

    phone: Annotated[Number, Field(description="Pair by an 8-character code for this number instead of a QR.")] = ""


class PairingOut(Schema):
    """The code on show. It changes about every 20 seconds: ask again until the state is `connected`."""

    state: str = Field(examples=["pairing"])
    qr: str | None = Field(None, description="The text of the QR code.")
    code: str | None = Field(None, description="The 8-character code.", examples=["ABCD-1234"])
    expires_at: datetime | None = None
    sentence: str
    what_to_do: str = ""


@router.get("/accounts", auth=READ, response={200: Page[AccountOut], **documented()}, summary="List accounts")
def list_accounts(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Those this key may use."""
    rows = reachable_accounts(request).select_related("session__host")
    return page(rows, cursor, limit, account_body, newest_first=False)


@router.post("/accounts", auth=MANAGE, response={201: AccountOut, **documented(409)}, summary="Create an account")
def create(request: HttpRequest, payload: AccountIn) -> Any:
    """Then pair it. A key that is limited to accounts cannot make new ones."""
    if key_of(request).limited:
        raise Refused("scope_missing", "This key is limited to some accounts and cannot make new ones.")
    account = Account(label=payload.label, proxy=payload.proxy or None, important=payload.important,
                      phone=digits_of(payload.phone) if payload.phone else None)  # fmt: skip
    try:
        account.full_clean()
    except ValidationError as error:
        raise _refused(error) from None
    account.save()
    return Status(201, account_body(account))


@router.get("/accounts/{account_id}", auth=READ, response={200: AccountOut, **documented()}, summary="Get an account")
def get_account(request: HttpRequest, account_id: Id) -> Any:
    """With its session."""
    return account_body(account_of(request, account_id))


@router.post("/accounts/{account_id}/pair", auth=MANAGE, response={202: PairingOut, **documented(409)},
             summary="Begin to pair")  # fmt: skip
def pair(request: HttpRequest, account_id: Id, payload: PairIn) -> Any:
    """Have a QR code made, or a code for a number. Keys in use stay until the pairing succeeds."""
    session = account_of(request, account_id).session
    session.request_pairing(_actor(request), digits_of(payload.phone) if payload.phone else "")
    return Status(202, pairing_body(session))


@router.get("/accounts/{account_id}/pairing", auth=MANAGE, response={200: PairingOut, **documented()},
            summary="The code to scan")  # fmt: skip
def get_pairing(request: HttpRequest, account_id: Id) -> Any:
    """As text; for a picture see below."""
    return pairing_body(account_of(request, account_id).session)


@router.get("/accounts/{account_id}/pairing.{form}", auth=MANAGE, summary="The code to scan, as a picture",
            response={200: bytes, **documented(409)},
            openapi_extra={"responses": {200: {"content": {"image/png": {}, "image/svg+xml": {}}}}})  # fmt: skip
def pairing_picture(request: HttpRequest, account_id: Id, form: Literal["png", "svg"]) -> HttpResponse:
    """409 while there is no QR code on show."""
    session = account_of(request, account_id).session
    if not session.qr_text:
        raise Refused("wrong_state", "There is no QR code on show: begin to pair first, and wait a second.")
    if form == "svg":
        return HttpResponse(str(qr_svg(session.qr_text)), content_type="image/svg+xml")
    out = io.BytesIO()
    segno.make_qr(session.qr_text, error="l").save(out, kind="png", scale=8, border=4)
    return HttpResponse(out.getvalue(), content_type="image/png")


@router.delete("/accounts/{account_id}/pairing", auth=MANAGE, response={202: PairingOut, **documented()},
               summary="Give a pairing up")  # fmt: skip
def cancel_pairing(request: HttpRequest, account_id: Id) -> Any:
    """Keys in use stay."""
    session = account_of(request, account_id).session
    session.cancel_pairing(_actor(request))
    return Status(202, pairing_body(session))


@router.post("/accounts/{account_id}/{verb}", auth=MANAGE, response={202: SessionOut, **documented(409)},
             summary="Start, stop, restart or log out")  # fmt: skip
def control(request: HttpRequest, account_id: Id, verb: Literal["start", "stop", "restart", "logout"]) -> Any:
    """Asked for, not yet done: watch the session. `logout` unlinks the device at WhatsApp; pair it again afterwards."""
    session = account_of(request, account_id).session
    if verb in ("start", "restart", "logout") and session.state in NEEDS_PAIRING:
        raise Refused("account_not_paired")
    asks: dict[str, Any] = {
        "start": session.request_start, "stop": session.request_stop, "restart": session.request_restart,
        "logout": session.request_logout,
    }  # fmt: skip
    asks[verb](_actor(request))
    return Status(202, session_body(session))


@router.get("/sessions", auth=READ, response={200: Page[SessionOut], **documented()}, summary="List sessions",
            tags=["sessions"])  # fmt: skip
def list_sessions(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """The connections of the accounts this key may use."""
    rows = Session.objects.select_related("account", "host").filter(account__in=reachable_accounts(request))
    return page(rows, cursor, limit, session_body, newest_first=False)


def account_body(account: Account) -> dict[str, Any]:
    """Return an account as JSON. Its proxy is not shown."""
    return {
        "id": account.pk, "label": account.label, "phone": f"+{account.phone}" if account.phone else None,
        "desired": account.desired, "important": account.important, "created_at": account.created_at,
        "session": session_body(account.session),
    }  # fmt: skip


def session_body(session: Session) -> dict[str, Any]:
    """Return a session as JSON."""
    now = timezone.now()
    explanation = explain(session, now)
    return {
        "account_id": session.account_id, "state": session.state, "stale": session.is_stale(now),
        "sentence": explanation.sentence, "what_to_do": explanation.what_to_do, "code": session.code,
        "retry_at": session.retry_at, "connected_at": session.connected_at, "push_name": session.push_name,
        "lid": session.lid or None,
    }  # fmt: skip


def pairing_body(session: Session) -> dict[str, Any]:
    """Return the pairing of a session as JSON."""
    explanation = explain(session, timezone.now())
    return {
        "state": session.state, "qr": session.qr_text or None, "code": session.pair_code or None,
        "expires_at": session.code_expires_at, "sentence": explanation.sentence, "what_to_do": explanation.what_to_do,
    }  # fmt: skip


def _actor(request: HttpRequest) -> str:
    return f"API key {key_of(request).name}"


def _refused(error: ValidationError) -> Refused:
    codes = {getattr(one, "code", "") for errors in error.error_dict.values() for one in errors}
    fields = [{"field": field, "detail": " ".join(texts)} for field, texts in error.message_dict.items()]
    code = "account_exists" if codes & {"unique", "phone_taken"} else "invalid_request"
    known = next((one for one in codes if one in CATALOGUE), code)
    return Refused(known, " ".join(error.messages), fields=fields)
