"""Requests under /api/ are answered here, on a pool of threads that keep their database connections.

The middleware below this one is for people: sessions, log-in, messages, languages. A program needs none of it, and
under ASGI each costs hops between threads (measured by bench/messages.py: 10.4 ms of CPU per message with them, 7.4
without). Every answer has a bounded body, quota headers, and problem details also where Django itself refuses.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from messaging.api.problems import CONTENT_TYPE, problem, refusal
from messaging.errors import Refused

#: Requests answered at once; those that only wait for an outcome or a host are limited apart.
_THREADS = 40
#: Seconds a thread keeps its database connection.
_KEEP = 60.0
#: Statuses Django answers by itself, without a body a program could read.
_CODES = {404: "not_found", 405: "method_not_allowed", 400: "invalid_request", 500: "internal_error"}

#: Until when this thread keeps its connections: alias -> time.
_kept = threading.local()

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class ApiMiddleware:
    """For addresses under /api/ alone; everything else passes through."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")

    def __call__(self, request: HttpRequest) -> Answer:
        if not request.path_info.startswith("/api/"):
            return self._get_response(request)
        return self._on_pool(request) if self._async else answer(request)

    async def _on_pool(self, request: HttpRequest) -> HttpResponseBase:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, context.run, _answer_and_tidy, request)


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
        told = problem(refusal(error))
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


def _answer_and_tidy(request: HttpRequest) -> HttpResponseBase:
    try:
        return answer(request)
    finally:
        for connection in connections.all(initialized_only=True):
            # Django would close it with the request; this thread lives on, so only what is old or broken is closed.
            until = _kept.__dict__.setdefault(connection.alias, time.monotonic() + _KEEP)
            connection.close_at = until
            connection.close_if_unusable_or_obsolete()
            if connection.connection is None:
                del _kept.__dict__[connection.alias]


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
