"""Errors on the wire: problem details of RFC 9457, with the stable code of messaging.errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFilesSent, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError
from ninja.errors import ValidationError as RequestInvalid
from pydantic import Field

from messaging.errors import CATALOGUE, Refused

_log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class FieldProblem(Schema):
    """One wrong field."""

    field: str = Field(examples=["body.to"])
    detail: str


class Problem(Schema):
    """What went wrong: `code` is for programs and never changes, `detail` is for people."""

    type: str = Field(examples=["urn:waserver:error:invalid_phone"])
    title: str = Field(examples=["Not a phone number"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["invalid_phone"])
    detail: str
    errors: list[FieldProblem] = []


def documented(*statuses: int) -> dict[int, type[Problem]]:
    """Return what an operation's `response` says of its refusals: these, and those any operation may meet."""
    return dict.fromkeys(sorted({400, 401, 403, 404, 405, 413, 422, 429, 500, 503, *statuses}), Problem)


def problem(refused: Refused) -> HttpResponse:
    """Return the answer to a refused request."""
    trouble = refused.trouble
    status = trouble.status or 422
    body: dict[str, Any] = {
        "type": f"urn:waserver:error:{refused.code}", "title": str(trouble.title), "status": status,
        "code": refused.code, "detail": refused.sentence,
    }  # fmt: skip
    if refused.fields:
        body["errors"] = refused.fields
    answer = HttpResponse(json.dumps(body, cls=DjangoJSONEncoder), status=status, content_type=CONTENT_TYPE)
    for name, value in refused.headers.items():
        answer[name] = value
    if status == 401:
        answer["WWW-Authenticate"] = "Bearer"
    return answer


def refusal(error: BaseException) -> Refused:
    """Return an exception in the catalogue's terms; what is not foreseen is an internal error."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestInvalid):
        return _invalid(error)
    if isinstance(error, ValidationError):
        code = getattr(error, "code", "")
        return Refused(code if code in CATALOGUE else "invalid_request", " ".join(error.messages))
    if isinstance(error, RequestDataTooBig | TooManyFilesSent):
        return Refused("body_too_large")
    if isinstance(error, UnreadablePostError | MultiPartParserError):
        return Refused("invalid_request", "The body could not be read.")
    if isinstance(error, Http404):
        return Refused("not_found")
    if isinstance(error, HttpError):
        return _by_status(error)
    if isinstance(error, OperationalError) and _is_busy(error):
        return Refused("database_busy", headers={"Retry-After": "1"})
    return Refused("internal_error")


def failed(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return the answer to a request that ended with an exception; what is a fault of ours is logged."""
    refused = refusal(error)
    if refused.code in ("internal_error", "database_busy"):
        # The message of a database error may quote what was stored: only its type is written.
        shown = type(error).__name__ if isinstance(error, DatabaseError) else error
        _log.error("%s %s failed: %s", request.method, request.path, shown,
                   exc_info=None if isinstance(error, DatabaseError) else error)  # fmt: skip
    return problem(refused)


def install(api: NinjaAPI) -> None:
    """Have an API answer every exception with problem details."""

    @api.exception_handler(Exception)
    def handle(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
        assert isinstance(error, Exception)
        return failed(request, error)

    for known in (Refused, RequestInvalid, ValidationError, Http404, HttpError):
        api.add_exception_handler(known, handle)


def _by_status(error: HttpError) -> Refused:
    if error.status_code == 400:  # ninja's only own use: the body is not JSON
        return Refused("invalid_json")
    by_status: Mapping[int, str] = {401: "key_invalid", 403: "scope_missing", 404: "not_found", 429: "rate_limited"}
    return Refused(by_status.get(error.status_code, "invalid_request"))


def _invalid(error: RequestInvalid) -> Refused:
    """Return the wrong fields, without their values: those may be secrets, or megabytes."""
    fields = []
    for one in error.errors[:20]:
        where = ".".join(str(part) for part in one["loc"] if part not in ("body", "payload") or len(one["loc"]) == 1)
        fields.append({"field": where, "detail": str(one["msg"])})
    first = fields[0] if fields else {"field": "", "detail": ""}
    return Refused("invalid_request", f"{first['field']}: {first['detail']}.", fields=fields)


def _is_busy(error: OperationalError) -> bool:
    # SQLite: locked; MySQL: lock wait time-out (1205), deadlock (1213), too many connections (1040)
    return "locked" in str(error) or bool(error.args and error.args[0] in (1040, 1205, 1213))
