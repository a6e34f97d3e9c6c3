"""Incidents in the admin: their list, the page of each, what staff do about them, and the pages of metrics."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import display
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring import incident_page, metric_page
from monitoring.dashboard import HANDLE, VIEW
from monitoring.levels import SEVERITIES, STATES, Sign
from monitoring.metrics import METRICS
from monitoring.models import Incident
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import moment


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ["how_bad", "what", "where_it_stands", "opened", "lasted", "assignee", "folded_into_it"]
    list_display_links = ["what"]
    list_filter = ["state", "severity", "metric", "assignee"]
    search_fields = ["title", "subject_label"]
    list_select_related = ["assignee"]
    actions = None

    class Media:
        js = ["monitoring/health.js"]
        css = {"all": ["sessions_app/live.css", "monitoring/health.css"]}

    # -- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        rows: QuerySet[Incident] = super().get_queryset(request)
        return rows.annotate(children=Count("folded"))

    @display(description=lazy("severity"), ordering="severity")
    def how_bad(self, row: Incident) -> str:
        return _badge(SEVERITIES[row.severity])

    @display(description=lazy("title"), ordering="title")
    def what(self, row: Incident) -> str:
        return row.shown_title

    @display(description=lazy("state"), ordering="state")
    def where_it_stands(self, row: Incident) -> str:
        return _badge(STATES[row.state])

    @display(description=lazy("opened"), ordering="opened_at")
    def opened(self, row: Incident) -> str:
        return moment(row.opened_at)

    @display(description=lazy("lasted"))
    def lasted(self, row: Incident) -> str:
        return incident_page.duration(row.lasted(timezone.now()))

    @display(description=lazy("folded in"))
    def folded_into_it(self, row: Any) -> str:
        return str(row.children or "–")

    # -- one incident

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("metric/<str:name>/", view(self.metric_view), name="monitoring_metric"),
            path("<int:pk>/do/<str:verb>/", view(self.verb_view), name="monitoring_incident_do"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "",
                    extra_context: dict[str, Any] | None = None) -> HttpResponse:  # fmt: skip
        """The page of an incident; looking at it changes nothing."""
        _require(request, VIEW)
        row = get_object_or_404(
            Incident.objects.select_related("acknowledged_by", "assignee", "parent"),
            pk=object_id if object_id.isdigit() else None,
        )
        context = {
            **self.admin_site.each_context(request), **incident_page.context(row, timezone.now()), "media": self.media,
            "title": row.shown_title, "may_handle": request.user.has_perm(HANDLE), "opts": self.opts,
            "people": User.objects.filter(is_active=True, is_staff=True).order_by("username"),
        }  # fmt: skip
        return TemplateResponse(request, "monitoring/incident.html", context)

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Do something about an incident, then show it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        _require(request, HANDLE)
        if verb not in _VERBS:
            raise Http404
        row = get_object_or_404(Incident, pk=pk)
        if problem := _VERBS[verb](row, request):
            messages.error(request, problem)
        return HttpResponseRedirect(reverse("admin:monitoring_incident_change", args=[pk]))

    def metric_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """The history of one metric."""
        _require(request, VIEW)
        chosen = request.GET.get("range", "24h")
        if name not in METRICS or chosen not in metric_page.RANGES:
            raise Http404
        subject = request.GET.get("subject", "")[:90]
        context = {
            **self.admin_site.each_context(request), "media": self.media, "title": METRICS[name].label,
            **metric_page.context(METRICS[name], subject, chosen, timezone.now()),
            "may_change": request.user.has_perm("monitoring.change_threshold"),
        }  # fmt: skip
        return TemplateResponse(request, "monitoring/metric.html", context)


def _acknowledge(row: Incident, request: HttpRequest) -> str:
    return "" if row.acknowledge(_user(request)) else _("It was acknowledged or resolved already.")


def _assign(row: Incident, request: HttpRequest) -> str:
    chosen = request.POST.get("assignee", "")
    to = User.objects.filter(pk=chosen, is_active=True, is_staff=True).first() if chosen.isdigit() else None
    if chosen and to is None:
        return _("There is no such member of staff any more: choose another.")
    row.assign(to, _user(request))
    return ""


def _note(row: Incident, request: HttpRequest) -> str:
    text = request.POST.get("text", "").strip()[:2000]
    if not text:
        return _("Write something first: the note was empty.")
    row.add_note(text, _user(request))
    return ""


def _resolve(row: Incident, request: HttpRequest) -> str:
    done = row.resolve(_user(request), request.POST.get("text", "").strip()[:2000])
    return "" if done else _("It was resolved already.")


_VERBS = {"acknowledge": _acknowledge, "assign": _assign, "note": _note, "resolve": _resolve}


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # admin_view lets nobody else pass
    return request.user


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _badge(sign: Sign) -> str:
    return render_to_string("monitoring/badge.html", {"sign": sign})


