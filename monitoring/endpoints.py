"""/healthz, /readyz and /metrics: for load balancers, Kubernetes and Prometheus.

They are a middleware, the first of all: probes come with a Host header of their own making, need no session and no
language, and /healthz has to answer while every thread is busy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.decorators import sync_and_async_middleware

from monitoring import prometheus
from monitoring.readiness import CHECKS, readiness

#: A request with one of these came through a proxy: its address tells nothing about who asks.
_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_PROTO", "HTTP_VIA")


def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is asked."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when every check is good, else 503. `?exclude=NAME`, repeatable, leaves a check out."""
    without = frozenset(request.GET.getlist("exclude"))
    if unknown := sorted(without - set(CHECKS)):
        sentence = f"There is no check “{unknown[0]}”. There are: {', '.join(CHECKS)}."
        return JsonResponse({"status": "error", "error": sentence}, status=400)
    checks = readiness(timezone.now(), without)
    ready = bool(checks) and all(check.ok for check in checks.values())
    return JsonResponse(
        {
            "status": "ready" if ready else "not ready",
            "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()},
        },
        status=200 if ready else 503,
    )


def metrics(request: HttpRequest) -> HttpResponse:
    """The numbers for Prometheus: to this machine itself, or to whoever has METRICS_TOKEN."""
    if not _may_scrape(request):
        return HttpResponse(
            "Metrics are for this machine only. From elsewhere set METRICS_TOKEN and send it as "
            "“Authorization: Bearer …”.\n", status=403, content_type="text/plain; charset=utf-8",
        )  # fmt: skip
    try:
        body = prometheus.exposition(timezone.now())
    except DatabaseError as error:
        return HttpResponse(
            f"The database does not answer ({type(error).__name__}).\n", status=503,
            content_type="text/plain; charset=utf-8",
        )  # fmt: skip
    return HttpResponse(body, content_type=prometheus.CONTENT_TYPE)


_ANSWERS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
}


@sync_and_async_middleware
def endpoints(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answer the three addresses; pass everything else on."""

    def answer(request: HttpRequest) -> HttpResponse | None:
        view = _ANSWERS.get(request.path_info)
        if view is None:
            return None
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
        response = view(request)
        response["Cache-Control"] = "no-store"
        return response

    if iscoroutinefunction(get_response):

        async def from_loop(request: HttpRequest) -> HttpResponseBase:
            if request.path_info == "/healthz":
                found = answer(request)  # here and now: no thread is needed
            else:
                found = await sync_to_async(answer)(request) if request.path_info in _ANSWERS else None
            if found is not None:
                return found
            passed: Awaitable[HttpResponseBase] = get_response(request)
            return await passed

        return from_loop

    def from_thread(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = answer(request) or get_response(request)
        return response

    return from_thread


def _may_scrape(request: HttpRequest) -> bool:
    """Return whether the token is right, or the asker sits on this machine and came through no proxy."""
    given = request.headers.get("Authorization", "")
    if settings.METRICS_TOKEN and constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        return True
    if settings.HTTPS or any(name in request.META for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
