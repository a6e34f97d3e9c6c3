"""Who asks the web process: programs with a key, a person with a log-in. Plain HTTP on connections that stay."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Letter:
    """One message to send; its text is unique."""

    account_id: int
    to: str
    text: str

    @property
    def request(self) -> Request:
        """Return what sends it, the same message however often it is asked for."""
        body = json.dumps({"account_id": self.account_id, "to": self.to, "kind": "text", "text": self.text})
        headers = {"Content-Type": "application/json", "Idempotency-Key": self.text}
        return Request("send", "/api/v1/messages", "POST", body, headers, 202)


@dataclass(frozen=True)
class Request:
    """What is asked, and the status the answer must have."""

    kind: str
    path: str
    method: str = "GET"
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    expected: int = 200


class Caller:
    """One connection to the web process. Raises OSError or HTTPException when it breaks; the next request opens it."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        where = urlsplit(address)
        self._headers = headers
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)

    def ask(self, request: Request) -> tuple[int, float]:
        """Return the status of the answer, read to its end, and the seconds it took."""
        began = time.monotonic()
        try:
            self._connection.request(request.method, request.path, request.body, self._headers | request.headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        return answer.status, time.monotonic() - began

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def program(address: str, key: str) -> Caller:
    """Return a program that calls with this API key."""
    return Caller(address, {"Authorization": f"Bearer {key}"})


def person(address: str) -> Caller:
    """Return a superuser's browser, logged in."""
    return Caller(address, {"Cookie": f"sessionid={log_in()}"})


def log_in() -> str:
    """Make a superuser with a log-in; return its cookie."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    user = User.objects.create_superuser("bench", password="for benches only")
    login = SessionStore()
    login[SESSION_KEY], login[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    login[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    login.save()
    return str(login.session_key)


@contextmanager
def elsewhere(function: Callable[..., Any], *arguments: Any) -> Iterator[Future[Any]]:
    """Run a function in a process of its own, so that its work is not counted as ours; give what will have its result.

    Left once it has ended.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool.submit(function, *arguments)


def at_once(callers: int, one: Callable[[int], None]) -> tuple[float, float]:
    """Run `one(n)` on a thread for each caller; return when they began and ended. Raises what one of them raised."""
    began = time.time()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(one, range(callers)))
    return began, time.time()


def percentile(seconds: list[float], percent: int) -> float | None:
    """Return a percentile in milliseconds; None of less than two."""
    if len(seconds) < 2:
        return None
    return round(statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000, 1)
