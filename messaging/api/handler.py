"""The ASGI side of the API: each request on one thread of a pool, whose threads keep their database connections.

Django's own handler would cost hops between threads, a new thread and new database connections for each request: a
single middleware that knows no asyncio has the whole chain run that way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.db import connections
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from messaging.api.middleware import chain

#: Requests answered at once; those that only wait for an outcome or a host are limited apart.
_THREADS = 40
#: Seconds a thread keeps its database connections.
_KEEP = 60.0
#: Seconds after a request in which they are not asked whether they still work.
_FRESH = 1.0

#: Until when this thread keeps its connections: alias -> time.
_kept = threading.local()
#: When this thread's last request ended: `at`.
_used = threading.local()


class ApiHandler(ASGIHandler):
    """An ASGI application for what is under /api/."""

    def load_middleware(self, is_async: bool = False) -> None:
        """Have the API's own chain instead of settings.MIDDLEWARE."""
        self._answer = chain()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """Serve one request. One whose caller has gone is finished all the same: it may have been accepted."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        try:
            request, refused = self.create_request(scope, body)
            response = refused if request is None else await self._on_pool(request)
            assert response is not None  # one of the two is there
            await self.send_response(response, send)
            response.close()
        finally:
            body.close()

    async def _on_pool(self, request: ASGIRequest) -> HttpResponseBase:
        # Not in a copy of this context: what a thread keeps, as the cache's connection, is found in its own context.
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer_and_tidy, request)

    def _answer_and_tidy(self, request: ASGIRequest) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(request.scope))
        if time.monotonic() - getattr(_used, "at", float("-inf")) < _FRESH:
            for connection in connections.all(initialized_only=True):
                # What worked a moment ago is not asked whether it works.
                connection.health_check_done = True  # type: ignore[attr-defined]
        try:
            return self._answer(request)
        finally:
            request.close()
            _used.at = time.monotonic()
            for connection in connections.all(initialized_only=True):
                # Django would close it with the request; this thread lives on, so only what is old or broken is.
                until = _kept.__dict__.setdefault(connection.alias, time.monotonic() + _KEEP)
                connection.close_at = until
                connection.close_if_unusable_or_obsolete()
                if connection.connection is None:
                    del _kept.__dict__[connection.alias]
