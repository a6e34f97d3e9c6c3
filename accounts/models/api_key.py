"""ApiKey: what lets a program use the API. The key itself is shown once and never stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lookup import lookup
from accounts.models.account import Account

#: Every key begins so: a leaked one is recognised by scanners.
_MARK = "wsk"
#: `last_used_at` is written at most this often per key.
_USED_EVERY = timedelta(minutes=1)


class Scope(models.TextChoices):
    """What a key may do."""

    READ = "read", _("read: accounts, messages, contacts, events")
    SEND = "send", _("send: messages, bulk sends, typing")
    MANAGE = "manage", _("manage: accounts, pairing, webhooks")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def valid(self, now: datetime) -> ApiKeyQuerySet:
        """Those that open something."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)

    def opened_by(self, secret: str, now: datetime) -> ApiKey | None:
        """Return the valid key whose secret this is, or None."""
        parts = secret.split("_")
        if len(parts) != 3 or parts[0] != _MARK or not secret.isascii():
            return None
        key = lookup(ApiKey, prefix=parts[1])
        if key is None or not key.is_valid(now) or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        return key


class ApiKey(models.Model):
    """Its scopes say what, its accounts whose: none listed means every account."""

    name = models.CharField(_("name"), max_length=80, unique=True)
    #: In the clear, to find the row; the secret part has 256 random bits, so a plain hash is enough.
    prefix = models.CharField(_("begins with"), max_length=12, unique=True, editable=False)
    hash = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(_("scopes"), default=list)
    accounts = models.ManyToManyField(
        Account, blank=True, related_name="api_keys", verbose_name=_("accounts"),
        help_text=_("Leave empty for every account."),
    )  # fmt: skip
    #: A key for one account must not become a key for all when that account is deleted.
    limited = models.BooleanField(default=False, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True,
                                   related_name="+", editable=False)  # fmt: skip
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def make(
        cls, name: str, scopes: Iterable[str], accounts: Iterable[Account] = (), **fields: Any
    ) -> tuple[ApiKey, str]:  # fmt: skip
        """Return a new key and its secret, which exists nowhere else from here on.

        Raises ValidationError with a sentence when the name is taken or a scope is unknown.
        """
        key = cls(name=" ".join(name.split()), scopes=sorted(set(scopes)), **fields)
        secret = key.draw()
        key.full_clean()
        key.save()
        key.limit_to(accounts)
        return key, secret

    def draw(self) -> str:
        """Give it a new secret and return that; the row is not saved."""
        self.prefix = secrets.token_hex(5)
        secret = f"{_MARK}_{self.prefix}_{secrets.token_hex(32)}"
        self.hash = _hash(secret)
        return secret

    def limit_to(self, accounts: Iterable[Account]) -> None:
        """Let it use these accounts alone; none means every account."""
        chosen = list(accounts)
        self.accounts.set(chosen)
        self.limited = bool(chosen)
        self.save(update_fields=["limited"])

    def clean(self) -> None:
        if unknown := [scope for scope in self.scopes if scope not in Scope.values]:
            raise ValidationError(
                {"scopes": _("“%(scope)s” is no scope: choose from %(scopes)s.")
                 % {"scope": unknown[0], "scopes": ", ".join(Scope.values)}}
            )  # fmt: skip
        if not self.scopes:
            raise ValidationError({"scopes": _("Choose at least one scope.")})

    def may(self, scope: Scope) -> bool:
        """Return whether it has a scope."""
        return scope in self.scopes

    def reachable(self) -> models.QuerySet[Account]:
        """Return the accounts it may use."""
        return self.accounts.all() if self.limited else Account.objects.all()

    def reaches(self, account_id: int | None) -> bool:
        """Return whether it may use an account; None stands for something that is of no one account."""
        if not self.limited:
            return True
        return account_id is not None and self.accounts.filter(pk=account_id).exists()

    def is_valid(self, now: datetime) -> bool:
        """Return whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def used(self, now: datetime) -> None:
        """Note that it was used."""
        if self.last_used_at is None or now - self.last_used_at > _USED_EVERY:
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)
            self.last_used_at = now

    def revoke(self) -> None:
        """Let it open nothing any more, for good."""
        self.revoked_at = timezone.now()
        self.save(update_fields=["revoked_at"])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
