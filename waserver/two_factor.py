"""Two-factor log-in for staff: a code of an authenticator app after the password; optional, or demanded of all."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django_otp import login as otp_login
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AuthenticationForm
from unfold.widgets import BASE_INPUT_CLASSES

#: Codes for the day the phone is gone, each good once.
BACKUP_CODES = 8


class LogInForm(AuthenticationForm):  # type: ignore[misc]
    """Name and password, and the code when this user has set one up."""

    code = forms.CharField(
        label=lazy("Code of your authenticator app"), required=False, max_length=16,
        help_text=lazy("Only if you have set up two-factor log-in. A backup code works too."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "class": " ".join(BASE_INPUT_CLASSES)}),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not TOTPDevice.objects.filter(confirmed=True).exists():
            del self.fields["code"]  # nobody here uses it

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean()
        user = self.get_user()
        if user is not None and is_on(user):
            user.otp_device = verified(user, cleaned.get("code", ""))
        return cleaned


def is_on(user: User) -> bool:
    """Return whether this user has two-factor log-in set up."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def verified(user: User, code: str) -> Device:
    """Return the device this code belongs to. Raises ValidationError; wrong codes slow the next attempt down."""
    code = code.replace(" ", "").lower()
    if not code:
        raise ValidationError(_("Type the code of your authenticator app as well."), code="code_required")
    kind = TOTPDevice if code.isdigit() and len(code) == 6 else StaticDevice
    for device in kind.objects.filter(user=user, confirmed=True):
        allowed, why = device.verify_is_allowed()
        if not allowed:
            raise ValidationError(_("Too many wrong codes. Wait a minute, then try again."), code="code_throttled")
        if device.verify_token(code):
            return device
    raise ValidationError(_("This code is not right. Take the one the app shows now."), code="code_wrong")


def page(request: HttpRequest) -> HttpResponse:
    """Set it up, or turn it off. Both ask for a code."""
    user = request.user
    assert isinstance(user, User)
    if request.method == "POST":
        try:
            return _turn_off(request, user) if "off" in request.POST else _turn_on(request, user)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(reverse("admin:two_factor"))
    context: dict[str, Any] = {**admin.site.each_context(request), "title": _("Two-factor log-in"), "on": is_on(user)}
    if not context["on"]:
        device, _made = TOTPDevice.objects.get_or_create(user=user, confirmed=False, defaults={"name": "app"})
        code = segno.make_qr(device.config_url).svg_inline(border=4, dark="#000", light="#fff", omitsize=True)
        context |= {"qr": mark_safe(code), "key": _grouped(b32encode(device.bin_key).decode())}  # noqa: S308 - segno's
    return TemplateResponse(request, "waserver/two_factor.html", context)


def _turn_on(request: HttpRequest, user: User) -> HttpResponse:
    device = TOTPDevice.objects.filter(user=user, confirmed=False).first()
    if device is None or not device.verify_token(request.POST.get("code", "").replace(" ", "")):
        raise ValidationError(_("This code is not right. Take the one the app shows now."))
    with transaction.atomic():
        device.confirmed = True
        device.save()
        spare, _made = StaticDevice.objects.get_or_create(user=user, name="backup")
        spare.token_set.all().delete()
        codes = [StaticToken.random_token() for _each in range(BACKUP_CODES)]
        StaticToken.objects.bulk_create(StaticToken(device=spare, token=code) for code in codes)
    otp_login(request, device)
    context = {**admin.site.each_context(request), "title": _("Two-factor log-in"), "on": True, "codes": codes}
    return TemplateResponse(request, "waserver/two_factor.html", context)


def _turn_off(request: HttpRequest, user: User) -> HttpResponse:
    verified(user, request.POST.get("code", ""))
    TOTPDevice.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()
    messages.success(request, _("Two-factor log-in is off."))
    return HttpResponseRedirect(reverse("admin:two_factor"))


def _grouped(text: str) -> str:
    text = text.rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


class Demand:
    """Middleware: with TWO_FACTOR=required, staff see nothing but the page where it is set up until they have."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Send who has not given a code to the page where that is done."""
        open_to_all = settings.TWO_FACTOR != "required" or not request.path.startswith(reverse("admin:index"))
        user: Any = request.user
        if open_to_all or not user.is_authenticated or user.is_verified():
            return self._get_response(request)
        if request.path in (reverse(f"admin:{name}") for name in ("two_factor", "logout", "login", "jsi18n")):
            return self._get_response(request)
        messages.warning(request, _("This server demands two-factor log-in: set it up first."))
        return HttpResponseRedirect(reverse("admin:two_factor"))
