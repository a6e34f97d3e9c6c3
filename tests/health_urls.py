"""The server's addresses, and API routes that take as long as asked, or fail."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse
from django.urls import path

from waserver.urls import urlpatterns as real


def slow(request: HttpRequest, tenths: int) -> HttpResponse:
    time.sleep(tenths / 10)
    return HttpResponse("late")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken on purpose")


urlpatterns = [path("api/test/slow/<int:tenths>", slow), path("api/test/broken", broken), *real]
