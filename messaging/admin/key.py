"""API keys: made here, shown once, never again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from accounts.models import ApiKey, Scope
from messaging.admin import shown
from sessions_app.explanations import moment


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret is drawn when the form is valid, and only its hash is stored."""

    scopes = forms.MultipleChoiceField(
        label=lazy("Scopes"), choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget,
        initial=[Scope.READ, Scope.SEND],
    )  # fmt: skip

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "accounts", "expires_at"]

    def clean_expires_at(self) -> Any:
        """Refuse a time that is over."""
        at = self.cleaned_data["expires_at"]
        if at is not None and at <= timezone.now():
            raise forms.ValidationError(_("The key would have expired already."))
        return at


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    form = ApiKeyForm
    list_display = ["name", "state", "begins_with", "scope_list", "whose", "last_used", "expires_at"]
    search_fields = ["name", "prefix"]
    autocomplete_fields = ["accounts"]
    actions = ["revoke"]
    Media = shown.Media

    @display(description=lazy("state"))
    def state(self, key: ApiKey) -> SafeString:
        if key.revoked_at is not None:
            return shown.badge("revoked")
        return shown.badge("valid" if key.is_valid(timezone.now()) else "expired")

    @display(description=lazy("begins with"))
    def begins_with(self, key: ApiKey) -> str:
        return f"wsk_{key.prefix}_…"

    @display(description=lazy("scopes"))
    def scope_list(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description=lazy("accounts"))
    def whose(self, key: ApiKey) -> str:
        return ", ".join(map(str, key.accounts.all())) or (_("none") if key.limited else _("every account"))

    @display(description=lazy("last used"), ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return moment(key.last_used_at) or "–"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).prefetch_related("accounts")  # type: ignore[no-any-return]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what a key did stays traceable: it is revoked

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        obj.created_by = request.user if request.user.is_authenticated else None
        # Kept on the request only: neither a cookie, nor the session, nor the log ever holds it.
        request.drawn_secret = obj.draw()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        form.instance.limit_to(form.cleaned_data["accounts"])

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request), "title": _("The new key"), "media": self.media,
            "secret": request.drawn_secret, "name": obj.name, "back": "admin:accounts_apikey_changelist",  # type: ignore[attr-defined]
            "hint": _("Send it in the header “Authorization: Bearer …”."),
        }  # fmt: skip
        answer = TemplateResponse(request, "messaging/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @action(description=lazy("Revoke"), permissions=["change"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys.filter(revoked_at=None):
            key.revoke()
        messages.success(request, _("The keys open nothing any more."))
