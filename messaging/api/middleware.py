"""Requests under /api/ are answered here and go no further down.

The middleware below this one is for people: sessions, log-in, messages, languages. A program needs none of it. Every
answer has a bounded body, quota headers, and problem details also where Django itself refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from messaging.api.problems import CONTENT_TYPE, failed, problem
from messaging.errors import Refused

#: What begins so is for programs.
PREFIX = "/api/"
#: Statuses Django answers by itself, without a body a program could read.
_CODES = {404: "not_found", 405: "method_not_allowed", 400: "invalid_request", 500: "internal_error"}

Answer = Callable[[HttpRequest], HttpResponseBase]


def for_programs(get_response: Answer) -> Answer:
    """Middleware, the first of all: answers what is under /api/, passes everything else on."""
    answer = chain()

    def lead(request: HttpRequest) -> HttpResponseBase:
        return answer(request) if request.path_info.startswith(PREFIX) else get_response(request)

    return lead


def chain() -> Answer:
    """Return what answers a request under /api/: `answer`, inside of settings.API_MIDDLEWARE."""
    whole: Answer = answer
    for path in reversed(settings.API_MIDDLEWARE):
        whole = import_string(path)(whole)
    return whole


def answer(request: HttpRequest) -> HttpResponseBase:
    """Return the answer to a request under /api/."""
    try:
        _look_at(request)
        match = resolve(request.path_info)
        request.resolver_match = match
        told = cast(HttpResponseBase, match.func(request, *match.args, **match.kwargs))
    except Resolver404:
        told = problem(Refused("not_found"))
    except Exception as error:  # noqa: BLE001 - the edge: what ninja did not catch
        told = failed(request, error)
    code = _CODES.get(told.status_code)
    if code is not None and not told.headers.get("Content-Type", "").startswith((CONTENT_TYPE, "application/json")):
        allow = told.headers.get("Allow")
        told = problem(Refused(code, headers={"Allow": allow} if allow else {}))
    quota = getattr(request, "quota", None)
    if quota is not None:
        for name, value in quota.headers.items():
            told.headers.setdefault(name, value)
    told.headers.setdefault("Cache-Control", "no-store")
    told.headers.setdefault("X-Frame-Options", "DENY")
    if isinstance(told, HttpResponse):
        told.headers.setdefault("Content-Length", str(len(told.content)))
    return told


def _look_at(request: HttpRequest) -> None:
    try:
        request.get_host()
    except DisallowedHost:
        raise Refused("invalid_request", "This host name is not in ALLOWED_HOSTS.") from None
    if "wsk_" in request.META.get("QUERY_STRING", "") or "wsk_" in request.path:
        raise Refused("key_in_url")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > settings.API_MAX_BODY:
        raise Refused("body_too_large" if length.isdigit() else "invalid_request")
    if "\x00" in request.path:
        raise Refused("not_found")
