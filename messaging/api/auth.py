"""Who calls: an API key in the Authorization header, its scope and its rate."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from accounts.lookup import lookup
from accounts.models import Account, ApiKey, Scope
from messaging import throttle
from messaging.errors import Refused
from messaging.throttle import Quota
from sessions_app.models import Session

_OF_ACCOUNT = ("id", "desired", "label")
_OF_SESSION = ("id", "account_id", "state", "store", "hold", "lease_expires_at")
#: Wrong keys are counted per address in windows of so many seconds.
_FAILURE_WINDOW = 300


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
    failures = throttle.look("failures", where, settings.API_FAILURES, _FAILURE_WINDOW)
    if failures.exceeded:
        raise Refused("too_many_failures", headers={"Retry-After": str(failures.reset)})
    now = timezone.now()
    key = ApiKey.objects.opened_by(secret.strip(), now)
    if key is None:
        throttle.take("failures", where, settings.API_FAILURES, _FAILURE_WINDOW)
        raise Refused("key_invalid")
    key.used(now)
    return key


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
    key = key_of(request)
    account = _sender(pk) if sending else Account.objects.select_related("session").filter(pk=pk).first()
    if account is None or not key.reaches(pk):
        raise Refused("not_found", f"There is no account {pk} for this key.")
    if sending:
        note_quota(request, throttle.take("account", pk, settings.API_ACCOUNT_RATE))
    return account


def _sender(pk: int) -> Account | None:
    """Return what it takes to decide whether an account may send; the rest is loaded where it is asked for."""
    account, session = lookup(Account, _OF_ACCOUNT, id=pk), lookup(Session, _OF_SESSION, account_id=pk)
    if account is None or session is None:
        return None
    session.account = account
    return account


def reachable_accounts(request: HttpRequest) -> QuerySet[Account]:
    """Return the accounts this key may use."""
    return key_of(request).reachable()


READ, SEND, MANAGE = Key(Scope.READ), Key(Scope.SEND), Key(Scope.MANAGE)
