"""Who asks the web process: programs with a key, a person with a log-in. Plain HTTP on connections that stay."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass, field
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
