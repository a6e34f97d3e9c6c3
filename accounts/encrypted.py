"""Text that is encrypted in the database, with a key derived from SECRET_KEY."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:  # it has no types, and behaves as a TextField
    Base = models.TextField[Any, Any]
else:
    from encrypted_fields.fields import EncryptedTextField as Base


class EncryptedTextField(Base):
    """The library's field, decrypting only what comes from the database.

    The library also decrypts what people type, unless a mark on the field, shared by all threads, says that it is being
    checked; and the mark stays for good when the check refuses, after which the process decrypts nothing any more.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return Base.to_python(self, value)

    def to_python(self, value: Any) -> Any:
        return models.TextField.to_python(self, value)

    def clean(self, value: Any, model_instance: Any) -> Any:
        return models.TextField.clean(self, value, model_instance)

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        return name, "encrypted_fields.fields.EncryptedTextField", args, kwargs  # the column is the library's
