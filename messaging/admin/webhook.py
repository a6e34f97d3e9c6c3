"""Webhooks: made, tested, switched off, and told again what they missed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from messaging import outgoing
from messaging.admin import shown
from messaging.admin.delivery import REPLAY
from messaging.admin.replay import RangeForm
from messaging.errors import Refused, sentence
from messaging.models import Delivery, DeliveryState, EventKind, WebhookEndpoint
from sessions_app.explanations import moment

#: Deliveries on the page of a webhook.
_RECENT = 10


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret is not in it: it is shown when the webhook is made or the secret rotated."""

    events = forms.MultipleChoiceField(
        label=lazy("Events"), required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget,
        choices=[(kind.value, format_lazy("{}: {}", kind.value, kind.label))
                 for kind in EventKind if kind is not EventKind.TEST],
        help_text=lazy("Choose none to send them all."),
    )  # fmt: skip

    class Meta:
        model = WebhookEndpoint
        fields = ["url", "account", "events", "description"]
        labels = {"account": lazy("Account")}

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
    change_form_outer_before_template = "messaging/endpoint.html"
    change_form_outer_after_template = "messaging/recent.html"
    warn_unsaved_form = True  # its page has other buttons than “Save”
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

    # -- the page of one webhook

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
                        extra_context: dict[str, Any] | None = None) -> Any:  # fmt: skip
        extra = dict(extra_context or {})
        endpoint = self.get_object(request, object_id) if object_id else None
        if endpoint is not None:
            recent = endpoint.deliveries.select_related("event")[:_RECENT]
            extra |= {
                "endpoint": endpoint, "badge": self.status(endpoint), "why": self.why(endpoint), "form": RangeForm(),
                "waiting": endpoint.deliveries.filter(state=DeliveryState.PENDING).count(),
                "recent": [(delivery, shown.badge(delivery.state), moment(delivery.created_at)) for delivery in recent],
                "may_test": self.has_change_permission(request, endpoint), "may_replay": request.user.has_perm(REPLAY),
                "zone": timezone.get_current_timezone_name(),
            }  # fmt: skip
        return super().changeform_view(request, object_id, form_url, extra)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<int:pk>/test/", self.admin_site.admin_view(self.test_view), name="webhook_test"),
            path("<int:pk>/replay/", self.admin_site.admin_view(self.replay_view), name="webhook_replay"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Queue a test to this one."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        endpoint = get_object_or_404(WebhookEndpoint, pk=pk)
        if not self.has_change_permission(request, endpoint):
            raise PermissionDenied
        if endpoint.disabled_at is not None:
            messages.error(request, sentence("webhook_disabled"))
        else:
            endpoint.send_test()
            messages.success(request, _("A test is on its way: see the deliveries below."))
        return HttpResponseRedirect(_page(pk))

    def replay_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Say how many events a time range has for this webhook; send them again when that is confirmed (POST)."""
        endpoint = get_object_or_404(WebhookEndpoint.objects.select_related("account"), pk=pk)
        if not (self.has_view_permission(request, endpoint) and request.user.has_perm(REPLAY)):
            raise PermissionDenied
        form = RangeForm(request.POST or request.GET or None)
        context = {
            **self.admin_site.each_context(request), "media": self.media, "title": _("Send a time range again"),
            "endpoint": endpoint, "form": form, "zone": timezone.get_current_timezone_name(),
        }  # fmt: skip
        if form.is_valid():
            since, until = form.cleaned_data["since"], form.cleaned_data["until"]
            if request.method == "POST":
                count = endpoint.replay(form.events)
                said = ngettext(
                    "%(count)d event from %(since)s to %(until)s is queued again.",
                    "%(count)d events from %(since)s to %(until)s are queued again.", count,
                ) % {"count": count, "since": moment(since), "until": moment(until)}  # fmt: skip
                self.log_change(request, endpoint, said)
                messages.success(request, said)
                return HttpResponseRedirect(_page(pk))
            context |= {
                "counted": True, "count": endpoint.wanted(form.events).count(), "since": moment(since),
                "until": moment(until), "exactly": {"since": since.isoformat(), "until": until.isoformat()},
            }  # fmt: skip
        return TemplateResponse(request, "messaging/replay.html", context)

    # -- several

    @action(description=lazy("Send a test"), permissions=["change"])
    def test(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        active = list(endpoints.filter(disabled_at=None))
        for endpoint in active:
            endpoint.send_test()
        shown.tell(request, _("%(count)d tests are on their way; see the deliveries."), len(active))

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
        shown.tell(request, _("%(count)d deliveries are queued again."), len(dead))


def _page(pk: int) -> str:
    return reverse("admin:messaging_webhookendpoint_change", args=[pk])
