"""Every account has exactly one session, from its first moment on."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from accounts.models import Account
from sessions_app.models import Session


@receiver(post_save, sender=Account)
def give_session(sender: type[Account], instance: Account, created: bool, **kwargs: Any) -> None:
    if created and not kwargs.get("raw"):
        Session.objects.create(account=instance)
