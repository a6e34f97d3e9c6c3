"""Who calls: an API key in the Authorization header, its scope and its rate."""

from __future__ import annotations

import time
from typing import Any, cast

from django.conf import settings
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from accounts.lookup import select_joined
from accounts.models import Account, ApiKey, Scope
from messaging import throttle
from messaging.errors import Refused
from messaging.models import Chat
from messaging.models.chat import KNOWN, known_as
from messaging.throttle import Quota
from sessions_app.models import Session

_SENDER: dict[type[Model], tuple[str, ...]] = {
    Account: ("id", "desired", "label"), Session: ("id", "account_id", "state", "store", "hold", "lease_expires_at"),
    Chat: (),
}  # fmt: skip
#: All three in one question: every message asks it.
_SENDING = (
    "FROM accounts_account JOIN sessions_app_session ON sessions_app_session.account_id = accounts_account.id "
    f"LEFT JOIN messaging_chat ON messaging_chat.account_id = accounts_account.id AND {KNOWN} "
    "WHERE accounts_account.id = %s ORDER BY messaging_chat.id LIMIT 1"
)
#: Wrong keys are counted per address in windows of so many seconds.
_FAILURE_WINDOW = 300
#: An address without any failure is asked for so many seconds later again; a failure here is known at once.
_TRUSTED, _REMEMBERED = 1.0, 10_000
_blameless: dict[str, float] = {}


class Key(HttpBearer):
    """Lets a valid key with one scope in. The key itself is in no log, no error and no cache."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> ApiKey:
        """Return the key of a request. Raises Refused."""
        key = authenticate(request.headers.get("Authorization", ""), address(request))
        quota = throttle.take("key", key.pk, settings.API_RATE)
        note_quota(request, quota)
        if not key.may(self.scope):
            raise Refused("scope_missing", values={"scope": self.scope})
        return key

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Part of HttpBearer; not used, as __call__ tells a missing key from a wrong one."""
        raise NotImplementedError


def authenticate(header: str, where: str) -> ApiKey:
    """Return the valid key of an Authorization header. Raises Refused; wrong keys are counted per address."""
    scheme, _space, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Refused("key_missing")
    _refuse_guesser(where)
    now = timezone.now()
    key = ApiKey.objects.opened_by(secret.strip(), now)
    if key is None:
        _blameless.pop(where, None)
        throttle.take("failures", where, settings.API_FAILURES, _FAILURE_WINDOW)
        raise Refused("key_invalid")
    key.used(now)
    return key


def _refuse_guesser(where: str) -> None:
    now = time.monotonic()
    if now - _blameless.get(where, float("-inf")) < _TRUSTED:
        return
    failures = throttle.look("failures", where, settings.API_FAILURES, _FAILURE_WINDOW)
    if failures.exceeded:
        raise Refused("too_many_failures", headers={"Retry-After": str(failures.reset)})
    if failures.left == settings.API_FAILURES - 1:  # this request's would be the first
        if len(_blameless) >= _REMEMBERED:
            _blameless.clear()
        _blameless[where] = now


def address(request: HttpRequest) -> str:
    """Return where a request comes from; behind the TLS proxy (HTTPS=1) the address that proxy saw."""
    if settings.HTTPS and (forwarded := request.headers.get("X-Forwarded-For")):
        return forwarded.split(",")[-1].strip()[:45]  # the last one is our own proxy's word
    return str(request.META.get("REMOTE_ADDR", ""))


def note_quota(request: HttpRequest, quota: Quota) -> None:
    """Have the answer carry this quota, and refuse when it is used up. The scarcer of two is shown."""
    shown = getattr(request, "quota", None)
    if shown is None or quota.left < shown.left:
        request.quota = quota  # type: ignore[attr-defined]
    if quota.exceeded:
        raise Refused("rate_limited", headers=quota.headers)


def key_of(request: HttpRequest) -> ApiKey:
    """Return the key that was let in."""
    return cast(ApiKey, request.auth)  # type: ignore[attr-defined]


def account_of(request: HttpRequest, pk: int, *, sending: bool = False) -> Account:
    """Return an account this key may use, with its session. Raises Refused."""
    if sending:
        return sender_of(request, pk)[0]
    return _allowed(request, pk, Account.objects.select_related("session").filter(pk=pk).first())


def sender_of(request: HttpRequest, pk: int, jid: str = "") -> tuple[Account, Chat | None]:
    """Return an account this key may send with, and its chat with that address where there is one. Raises Refused.

    Loaded is what it takes to decide whether it may send; the rest is where it is asked for.
    """
    found = select_joined(_SENDER, _SENDING, [*known_as(jid), pk])
    account, session, chat = cast(tuple[Account, Session, Chat | None], found[0] if found else (None, None, None))
    _allowed(request, pk, account)
    session.account = account
    note_quota(request, throttle.take("account", pk, settings.API_ACCOUNT_RATE))
    return account, chat


def _allowed(request: HttpRequest, pk: int, account: Account | None) -> Account:
    if account is None or not key_of(request).reaches(pk):
        raise Refused("not_found", f"There is no account {pk} for this key.")
    return account


def reachable_accounts(request: HttpRequest) -> QuerySet[Account]:
    """Return the accounts this key may use."""
    return key_of(request).reachable()


READ, SEND, MANAGE = Key(Scope.READ), Key(Scope.SEND), Key(Scope.MANAGE)
