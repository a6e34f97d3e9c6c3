"""What is written down when staff change it (django-auditlog): which models, and of them no secret."""

from __future__ import annotations

from collections.abc import Mapping

from auditlog.registry import auditlog
from django.apps import apps
from django.db.models import Model
from encrypted_fields.fields import EncryptedTextField

#: Model -> fields left out because they are no change by a person. Secrets are left out by themselves.
TRACKED: Mapping[str, tuple[str, ...]] = {
    "accounts.account": (),
    "accounts.apikey": ("last_used_at",),
    "auth.group": (),
    "auth.user": ("last_login",),
    "messaging.autoreply": (),
    "messaging.contactpause": (),
    "messaging.pacingrule": (),
    "messaging.webhookendpoint": (),
    "monitoring.alertchannel": (),
    "monitoring.threshold": (),
    "sessions_app.retryrule": (),
}
#: Fields that hold a secret or what stands for one, by name; encrypted fields are secrets anyway.
SECRET_NAMES = frozenset({"password", "hash"})
#: Many-to-many fields whose changes are written down too.
SETS: Mapping[str, frozenset[str]] = {
    "auth.group": frozenset({"permissions"}),
    "auth.user": frozenset({"groups", "user_permissions"}),
}


def secrets(model: type[Model]) -> list[str]:
    """Return the names of a model's fields whose values must never be written down."""
    return [
        field.name for field in model._meta.concrete_fields
        if isinstance(field, EncryptedTextField) or field.name in SECRET_NAMES
    ]  # fmt: skip


def register() -> None:
    """Have the models tracked."""
    for label, left_out in TRACKED.items():
        model = apps.get_model(label)
        auditlog.register(model, exclude_fields=[*left_out, *secrets(model)], m2m_fields=SETS.get(label, set()))
