"""What the dispatcher remembers: who may dispatch, how far each reader of the stream has come, what was told."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from accounts.change import change
from accounts.models import Account


class DispatcherLease(models.Model):
    """One row: of several dispatchers one works, so that the order of deliveries is kept; another takes over."""

    LENGTH = timedelta(seconds=20)

    owner = models.CharField(max_length=80, blank=True)
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.owner

    @classmethod
    def hold(cls, owner: str, now: datetime) -> bool:
        """Take or prolong it; False while another holds it."""
        if change(cls, {"expires_at": now + cls.LENGTH}, id=1, owner=owner):
            return True
        free = Q(owner="") | Q(expires_at=None) | Q(expires_at__lt=now)
        row = cls.objects.filter(free, pk=1)
        taken = row.update(owner=owner, expires_at=now + cls.LENGTH) == 1
        if not taken and cls.objects.get_or_create(pk=1)[1]:
            return row.update(owner=owner, expires_at=now + cls.LENGTH) == 1
        return taken

    @classmethod
    def give_back(cls, owner: str) -> None:
        """Let another take it at once."""
        cls.objects.filter(pk=1, owner=owner).update(owner="", expires_at=None)


class StreamReader(models.Model):
    """How far an own reader of the event stream has come."""

    name = models.CharField(max_length=40, primary_key=True)
    position = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class SessionTold(models.Model):
    """The state of a session that was last told as an event."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=12)

    def __str__(self) -> str:
        return f"{self.account_id} {self.state}"
