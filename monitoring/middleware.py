"""Counts API requests per minute and route. It runs under both kinds of server and costs microseconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from monitoring.counting import count_request

#: What is counted.
PREFIX = "/api/"
#: Requests for no address of ours, together: strangers must not be able to make rows.
UNKNOWN = "(unknown address)"

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class CountRequests:
    """The outermost middleware but for static files, so that it sees the status others make of an exception."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if not request.path_info.startswith(PREFIX):
            return self._get_response(request)
        if self._async:
            return self._counted(request)
        began = time.perf_counter()
        response = cast(HttpResponseBase, self._get_response(request))
        _count(request, response, began)
        return response

    async def _counted(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = await cast(Awaitable[HttpResponseBase], self._get_response(request))
        _count(request, response, began)
        return response


def _count(request: HttpRequest, response: HttpResponseBase, began: float) -> None:
    match = request.resolver_match
    route = f"{request.method} /{match.route.lstrip('^/')}"[:120] if match else UNKNOWN
    count_request(route, time.perf_counter() - began, response.status_code >= 500)
