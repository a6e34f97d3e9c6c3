"""The server's addresses, and API routes that take as long as asked, or fail."""

from __future__ import annotations

import asyncio

from django.http import HttpRequest, HttpResponse
from django.urls import path

from waserver.urls import urlpatterns as real


async def slow(request: HttpRequest, tenths: int) -> HttpResponse:
    await asyncio.sleep(tenths / 10)
    return HttpResponse("late")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken on purpose")


urlpatterns = [path("api/test/slow/<int:tenths>", slow), path("api/test/broken", broken), *real]
