"""Account: a WhatsApp identity we manage."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts import phone, proxy
from accounts.encrypted import EncryptedTextField


class Desired(models.TextChoices):
    """What staff want of an account."""

    ONLINE = "online", _("online")
    OFFLINE = "offline", _("offline")


class Account(models.Model):
    """A WhatsApp identity we manage. Its connection is the Session that belongs to it."""

    label = models.CharField(
        _("label"), max_length=80, unique=True, help_text=_("How your team calls this account, e.g. “Front office”.")
    )
    phone = models.CharField(
        _("phone number"),
        max_length=16,
        unique=True,
        null=True,
        blank=True,
        help_text=_("Leave empty to learn it at pairing. When set, only the phone with this number is accepted."),
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="whatsapp_accounts",
        verbose_name=_("owner"),
    )
    proxy = EncryptedTextField(
        _("proxy"),
        null=True,  # the field stores nothing as NULL
        blank=True,
        validators=[proxy.validate],
        help_text=_("Optional, for this account only: http://user:password@host:port or socks5://host:port."),
    )
    desired = models.CharField(_("desired"), max_length=8, choices=Desired.choices, default=Desired.ONLINE)
    important = models.BooleanField(
        _("important"), default=False, help_text=_("Important accounts are connected first when many start.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["label"]

    def __str__(self) -> str:
        return self.label

    @property
    def phone_display(self) -> str:
        """Return the number as people write it, or "" while it is unknown."""
        return phone.display(self.phone or "")

    def clean_fields(self, exclude: Any = None) -> None:
        # Before the field's own checks, so that uniqueness is tested on the stored form.
        self.label = " ".join(self.label.split())
        if self.phone and "phone" not in (exclude or ()) and not self._has_phone_already():
            try:
                self.phone = phone.normalise(self.phone)
            except ValidationError as error:
                raise ValidationError({"phone": error.messages}) from error
        self.phone = self.phone or None
        super().clean_fields(exclude)

    def _has_phone_already(self) -> bool:
        """Return whether this number is in the row: it is not read again, as if somebody had typed it."""
        return self.pk is not None and Account.objects.filter(pk=self.pk, phone=self.phone).exists()

    def unique_error_message(self, model_class: Any, unique_check: Any) -> ValidationError:
        if tuple(unique_check) == ("phone",):
            taken = Account.objects.filter(phone=self.phone).exclude(pk=self.pk).first()
            return ValidationError(
                _("%(phone)s already belongs to the account “%(label)s”. One number can belong to one account only."),
                code="phone_taken",
                params={"phone": self.phone_display, "label": taken.label if taken else "?"},
            )
        return super().unique_error_message(model_class, unique_check)
