"""Asking a host: a row, and a wait for its answer that always ends."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Account
from messaging.accept import check_account
from messaging.errors import CATALOGUE, Refused
from messaging.models import Ask, HostRequest
from sessions_app.states import State

#: How long a caller waits for a host.
PATIENCE = timedelta(seconds=15)
_LOOK_EVERY = 0.1  # seconds
#: Callers that may wait at once in this process.
_waiters = threading.BoundedSemaphore(12)


def ask(account: Account, what: Ask, **arguments: Any) -> dict[str, Any]:
    """Return the host's answer. Raises Refused when the account is not connected or no answer came in time."""
    check_account(account)
    session = account.session
    if session.state != State.CONNECTED or session.is_stale(timezone.now()):
        raise Refused("account_offline")
    if not _waiters.acquire(blocking=False):
        raise Refused("too_busy", headers={"Retry-After": "1"})
    try:
        return _answer(HostRequest.put(account, what, arguments, PATIENCE))
    finally:
        _waiters.release()


def _answer(request: HostRequest) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
        request.refresh_from_db()
        if request.answered_at is None:
            continue
        if request.error_code:
            known = request.error_code if request.error_code in CATALOGUE else "whatsapp_refused"
            raise Refused(known, request.error)
        return dict(request.answer)
    raise Refused("host_silent")
