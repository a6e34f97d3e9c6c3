"""Counts API requests per minute and route, for microseconds each. One of settings.API_MIDDLEWARE."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from monitoring.counting import count_request

#: Requests for no address of ours, together: strangers must not be able to make rows.
UNKNOWN = "(unknown address)"


Answer = Callable[[HttpRequest], HttpResponseBase]


def count_requests(get_response: Answer) -> Answer:
    """Sits right around what answers, so that it sees the status that others make of an exception."""

    def counted(request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = get_response(request)
        match = request.resolver_match
        route = f"{request.method} /{match.route.lstrip('^/')}"[:120] if match else UNKNOWN
        count_request(route, time.perf_counter() - began, response.status_code >= 500)
        return response

    return counted
