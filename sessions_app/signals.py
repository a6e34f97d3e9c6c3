"""Every account has exactly one session, from its first moment on."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone

from accounts.models import Account
from sessions_app import changes
from sessions_app.models import Session


@receiver(post_save, sender=Account)
def keep_session(sender: type[Account], instance: Account, created: bool, **kwargs: Any) -> None:
    """Give a new account its session; let the owner of an old one look at what changed."""
    if kwargs.get("raw"):
        return
    if created:
        Session.objects.create(account=instance)
        return
    session = Session.objects.filter(account=instance)
    session.update(due_at=timezone.now(), version=F("version") + 1)
    changes.announce(*session.values_list("pk", flat=True))
