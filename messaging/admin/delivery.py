"""Deliveries of webhooks: the log, and sending one again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.decorators import action

from messaging.admin import shown
from messaging.models import Delivery, DeliveryState
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import moment

REPLAY = "messaging.replay_delivery"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["id", "endpoint", "event", "status", "attempts", "code", "why", "last", "next"]
    list_filter = ["state", "endpoint", "replay"]
    list_select_related = ["endpoint", "event"]
    show_full_result_count = False
    change_form_outer_before_template = "messaging/delivery.html"
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
        shown.tell(request, _("%(count)d deliveries are queued again."), len(finished))

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REPLAY)

    # -- one delivery

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
                        extra_context: dict[str, Any] | None = None) -> Any:  # fmt: skip
        extra = dict(extra_context or {})
        delivery = self.get_object(request, object_id) if object_id else None
        if delivery is not None:
            extra |= {
                "delivery": delivery, "badge": self.status(delivery), "next": self.next(delivery),
                "may_replay": delivery.state != DeliveryState.PENDING and request.user.has_perm(REPLAY),
            }  # fmt: skip
        return super().changeform_view(request, object_id, form_url, extra)

    def get_urls(self) -> list[URLPattern]:
        again = path("<int:pk>/again/", self.admin_site.admin_view(self.again_view), name="delivery_again")
        return [again, *super().get_urls()]

    def again_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Queue it once more, and show that new one."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        delivery = get_object_or_404(Delivery, pk=pk)
        if not (self.has_view_permission(request, delivery) and request.user.has_perm(REPLAY)):
            raise PermissionDenied
        if delivery.state == DeliveryState.PENDING:
            messages.error(request, _("It is still being tried."))
        else:
            delivery = delivery.again()
            messages.success(request, _("It is queued again: this is the new delivery."))
        return HttpResponseRedirect(reverse("admin:messaging_delivery_change", args=[delivery.pk]))
