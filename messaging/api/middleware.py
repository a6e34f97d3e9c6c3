"""What every answer under /api/ has: a bounded body, quota headers, problem details also from Django itself."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from messaging.api.problems import CONTENT_TYPE, problem
from messaging.errors import Refused

#: Statuses Django answers by itself, without a body a program could read.
_CODES = {404: "not_found", 405: "method_not_allowed", 400: "invalid_request", 500: "internal_error"}


class ApiMiddleware:
    """For addresses under /api/ alone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith("/api/"):
            return self._get_response(request)
        try:
            _look_at(request)
        except Refused as refused:
            return problem(refused)
        answer = self._get_response(request)
        code = _CODES.get(answer.status_code)
        told = answer.headers.get("Content-Type", "").startswith((CONTENT_TYPE, "application/json"))
        if code is not None and not told:
            allow = answer.headers.get("Allow")
            answer = problem(Refused(code, headers={"Allow": allow} if allow else {}))
        quota = getattr(request, "quota", None)
        if quota is not None:
            for name, value in quota.headers.items():
                answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer


def _look_at(request: HttpRequest) -> None:
    if "wsk_" in request.META.get("QUERY_STRING", "") or "wsk_" in request.path:
        raise Refused("key_in_url")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > settings.API_MAX_BODY:
        raise Refused("body_too_large" if length.isdigit() else "invalid_request")
    if "\x00" in request.path:
        raise Refused("not_found")
