"""Webhooks and their deliveries."""

from __future__ import annotations

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from messaging import outgoing
from messaging.admin import shown
from messaging.errors import Refused
from messaging.models import Delivery, DeliveryState, EventKind, WebhookEndpoint
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import moment


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret is not in it: it is shown when the webhook is made or the secret rotated."""

    events = forms.MultipleChoiceField(
        label=lazy("Events"), required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget,
        choices=[(kind.value, f"{kind.value}: {kind.label}") for kind in EventKind if kind is not EventKind.TEST],
        help_text=lazy("Choose none to send them all."),
    )  # fmt: skip

    class Meta:
        model = WebhookEndpoint
        fields = ["url", "account", "events", "description"]

    def clean_url(self) -> str:
        """Refuse what would not be called."""
        url: str = self.cleaned_data["url"].strip()
        try:
            outgoing.check(url)
        except Refused as refused:
            raise forms.ValidationError(refused.sentence) from None
        return url


@admin.register(WebhookEndpoint)
class WebhookAdmin(ModelAdmin):  # type: ignore[misc]
    form = WebhookForm
    list_display = ["__str__", "url", "whose", "status", "why"]
    list_filter = ["account"]
    search_fields = ["url", "description"]
    list_select_related = ["account"]
    autocomplete_fields = ["account"]
    actions = ["test", "enable", "disable", "rotate", "replay_dead"]
    Media = shown.Media

    @display(description=lazy("account"))
    def whose(self, endpoint: WebhookEndpoint) -> str:
        return str(endpoint.account or _("every account"))

    @display(description=lazy("state"))
    def status(self, endpoint: WebhookEndpoint) -> SafeString:
        state = "disabled" if endpoint.disabled_at else "failing" if endpoint.failing_since else "enabled"
        return shown.badge(state)

    @display(description=lazy("why"))
    def why(self, endpoint: WebhookEndpoint) -> str:
        if endpoint.disabled_at:
            return endpoint.disabled_reason
        since = moment(endpoint.failing_since)
        return _("since %(time)s") % {"time": since} if since else ""

    def response_add(
        self, request: HttpRequest, obj: WebhookEndpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._secret(request, obj)

    def _secret(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request), "title": _("The signing secret"), "media": self.media,
            "secret": endpoint.secret, "name": str(endpoint), "back": "admin:messaging_webhookendpoint_changelist",
            "hint": _("Your program verifies the signatures with it (standardwebhooks.com)."),
        }  # fmt: skip
        answer = TemplateResponse(request, "messaging/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @action(description=lazy("Send a test"), permissions=["change"])
    def test(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        active = list(endpoints.filter(disabled_at=None))
        for endpoint in active:
            endpoint.send_test()
        messages.success(request, _("%(count)d tests are on their way; see the deliveries.") % {"count": len(active)})

    @action(description=lazy("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in endpoints:
            endpoint.enable()
        messages.success(request, _("Enabled; what waited is sent now."))

    @action(description=lazy("Disable"), permissions=["change"])
    def disable(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in endpoints.filter(disabled_at=None):
            endpoint.switch_off(str(request.user))
        messages.success(request, _("Disabled; events wait until it is enabled."))

    @action(description=lazy("Rotate the secret"), permissions=["change"])
    def rotate(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> HttpResponse | None:
        if len(endpoints) != 1:
            messages.warning(request, _("Choose exactly one webhook: its new secret is shown once."))
            return None
        endpoint = endpoints[0]
        endpoint.rotate()
        return self._secret(request, endpoint)

    @action(description=lazy("Send again what was given up"), permissions=["change"])
    def replay_dead(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        dead = list(Delivery.objects.filter(endpoint__in=endpoints, state=DeliveryState.DEAD).order_by("pk"))
        for delivery in dead:
            delivery.again()
        messages.success(request, _("%(count)d deliveries are queued again.") % {"count": len(dead)})


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["id", "endpoint", "event", "status", "attempts", "code", "why", "last", "next"]
    list_filter = ["state", "endpoint", "replay"]
    list_select_related = ["endpoint", "event"]
    show_full_result_count = False
    actions = ["replay_chosen"]
    Media = shown.Media

    @display(description=lazy("state"), ordering="state")
    def status(self, delivery: Delivery) -> SafeString:
        return shown.badge(delivery.state)

    @display(description=lazy("why"))
    def why(self, delivery: Delivery) -> str:
        return delivery.error[:120]

    @display(description=lazy("last attempt"))
    def last(self, delivery: Delivery) -> str:
        return moment(delivery.last_at) or "–"

    @display(description=lazy("next attempt"))
    def next(self, delivery: Delivery) -> str:
        return moment(delivery.next_at) if delivery.state == DeliveryState.PENDING else "–"

    @action(description=lazy("Send again"), permissions=["replay"])
    def replay_chosen(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> None:
        finished = list(chosen.exclude(state=DeliveryState.PENDING).order_by("pk"))
        for delivery in finished:
            delivery.again()
        messages.success(request, _("%(count)d deliveries are queued again.") % {"count": len(finished)})

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("messaging.replay_delivery")


