"""Accounts: their list with live states, their form, the pairing page, and what can be asked of their sessions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext, ngettext_lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import phone, proxy
from accounts.models import Account
from sessions_app import overview
from sessions_app.explanations import explain
from sessions_app.models import Session, SessionCommand, Verb
from sessions_app.models.event import REQUESTED
from sessions_app.snapshot import CONTROL, PAIR, badge, cells, may_view, panel_context
from sessions_app.states import NEEDS_PAIRING
from sessions_app.timeline import timeline

#: What a bulk action says when it was passed on.
_ASKED: dict[str, Promise] = {
    "start": ngettext_lazy("%(count)d session was asked to start.", "%(count)d sessions were asked to start.", "count"),
    "stop": ngettext_lazy("%(count)d session was asked to stop.", "%(count)d sessions were asked to stop.", "count"),
    "restart": ngettext_lazy("%(count)d session was asked to restart.", "%(count)d sessions were asked to restart.",
                             "count"),
}  # fmt: skip


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """The proxy's password is never sent back to a browser: an empty field keeps the proxy, "-" removes it."""

    # Wider than the digits that are stored: people paste numbers with spaces, and a browser cuts them off silently.
    phone = forms.CharField(
        label=lazy("Phone number"), required=False, max_length=40, empty_value=None,
        help_text=Account._meta.get_field("phone").help_text,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "tel", "autocomplete": "off"}),
    )  # fmt: skip
    proxy_url = forms.CharField(
        label=lazy("Proxy"), required=False, widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    )

    class Meta:
        model = Account
        fields = ["label", "phone", "owner", "desired", "important"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.phone:
            self.initial["phone"] = self.instance.phone_display
        kept = proxy.display(self.instance.proxy or "")
        self.fields["proxy_url"].help_text = (
            _("In use: %(proxy)s. Leave empty to keep it, write - to remove it.") % {"proxy": kept}
            if kept
            else _("Optional, for this account only: http://user:password@host:port or socks5://host:port.")
        )

    def clean_proxy_url(self) -> str | None:
        """Return the proxy to store."""
        typed: str = self.cleaned_data["proxy_url"].strip()
        if not typed:
            return self.instance.proxy
        if typed == "-":
            return None
        proxy.validate(typed)
        return typed

    def save(self, commit: bool = True) -> Any:
        self.instance.proxy = self.cleaned_data["proxy_url"]
        return super().save(commit)


@admin.register(Account)
class AccountAdmin(ModelAdmin):  # type: ignore[misc]
    form = AccountForm
    fields = ["label", "phone", "owner", "proxy_url", "desired", "important"]
    list_display = ["label", "number", "state", "owner", "since", "on_host"]
    list_filter = ["session__state", "desired", "owner"]
    search_fields = ["label", "phone", "session__push_name"]
    list_select_related = ["session__host", "owner"]
    list_per_page = 50  # 100 rows of live cells take 0.25 s to render
    actions = ["start", "stop", "restart"]
    list_before_template = "sessions_app/list_before.html"
    change_form_outer_before_template = "sessions_app/detail.html"

    class Media:
        js = ["sessions_app/live.js"]
        css = {"all": ["sessions_app/live.css"]}

    # -- the list

    @display(description=lazy("number"), ordering="phone")
    def number(self, account: Account) -> SafeString:
        return _live(account, "number")

    @display(description=lazy("state"), ordering="session__state")
    def state(self, account: Account) -> SafeString:
        explanation = explain(account.session, timezone.now())
        return format_html(
            '<span data-session-cell="{}" data-state="{}"><span data-badge>{}</span> '
            "<span data-sentence>{} {}</span></span>",
            account.session.pk, account.session.state, mark_safe(badge(explanation)),  # noqa: S308 - our template
            explanation.sentence, explanation.what_to_do,
        )  # fmt: skip

    @display(description=lazy("connected since"), ordering="session__connected_at")
    def since(self, account: Account) -> SafeString:
        return _live(account, "since")

    @display(description=lazy("host"))
    def on_host(self, account: Account) -> SafeString:
        return _live(account, "host")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return super().get_queryset(request).select_related("session__host", "owner")  # type: ignore[no-any-return]

    @action(description=lazy("Start"), permissions=["control"])
    def start(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._ask_all(request, accounts, "start")

    @action(description=lazy("Stop"), permissions=["control"])
    def stop(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._ask_all(request, accounts, "stop")

    @action(description=lazy("Restart"), permissions=["control"])
    def restart(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._ask_all(request, accounts, "restart")

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CONTROL)

    def _ask_all(self, request: HttpRequest, accounts: QuerySet[Account], verb: str) -> None:
        sessions = [account.session for account in accounts]
        able = [session for session in sessions if verb == "stop" or session.state not in NEEDS_PAIRING]
        for session in able:
            _ask(session, verb, request)
        if able:
            messages.success(request, _ASKED[verb] % {"count": len(able)})
        if rest := len(sessions) - len(able):
            messages.warning(request, ngettext(
                "%(count)d account is not paired, so nothing was asked of it: pair it first.",
                "%(count)d accounts are not paired, so nothing was asked of them: pair them first.", rest,
            ) % {"count": rest})  # fmt: skip

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), **overview.context(timezone.now())})

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """What stands above the list, fetched again by the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return TemplateResponse(request, "sessions_app/overview.html", overview.context(timezone.now()))

    # -- one account

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
                        extra_context: dict[str, Any] | None = None) -> Any:  # fmt: skip
        extra = dict(extra_context or {})
        account = self.get_object(request, unquote(object_id)) if object_id else None
        session = account.session if account is not None else None
        if session is not None and request.user.is_authenticated:
            extra |= {**panel_context(session, request.user), "timeline": timeline(session)}
        return super().changeform_view(request, object_id, form_url, extra)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "desired" in form.changed_data:
            obj.session.own_event(REQUESTED, str(request.user), obj.desired, timezone.now()).save()

    def response_add(self, request: HttpRequest, obj: Account, post_url_continue: str | None = None) -> HttpResponse:
        if "_addanother" in request.POST or "_popup" in request.POST or not request.user.has_perm(PAIR):
            return super().response_add(request, obj, post_url_continue)  # type: ignore[no-any-return]
        obj.session.request_pairing(request.user)
        return HttpResponseRedirect(reverse("admin:account_pair", args=[obj.pk]))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "GET":
            messages.info(request, _("The phone stays linked at WhatsApp unless you log the account out first; its "
                                     "keys are kept for 7 days."))  # fmt: skip
        return super().delete_view(request, object_id, extra_context)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("overview/", self.admin_site.admin_view(self.overview_view), name="account_overview"),
            path("<int:pk>/pair/", self.admin_site.admin_view(self.pair_view), name="account_pair"),
            path("<int:pk>/session/<str:verb>/", self.admin_site.admin_view(self.session_view), name="account_session"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def pair_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The pairing page; looking at it changes nothing."""
        session = get_object_or_404(Session.objects.select_related("account", "host"), account__pk=pk)
        if not (request.user.is_authenticated and request.user.has_perm(PAIR) and may_view(request.user)):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request), **panel_context(session, request.user), "media": self.media,
            "title": _("Pair %(label)s") % {"label": session.account.label},
        }  # fmt: skip
        return TemplateResponse(request, "sessions_app/pair.html", context)

    def session_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Ask something of the session, then show what comes of it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        session = get_object_or_404(Session.objects.select_related("account"), account__pk=pk)
        pairing = verb in (Verb.PAIR, Verb.CANCEL_PAIRING)
        if not request.user.has_perm(PAIR if pairing else CONTROL):
            raise PermissionDenied
        try:
            _ask(session, verb, request)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        page = "admin:account_pair" if pairing else "admin:accounts_account_change"
        return HttpResponseRedirect(reverse(page, args=[pk]))


def _live(account: Account, part: str) -> SafeString:
    """Return a cell of the list that live.js keeps current."""
    return format_html('<span data-session-part="{}" data-session="{}">{}</span>', part, account.session.pk,
                       cells(account.session, account)[part])  # fmt: skip


def _ask(session: Session, verb: str, request: HttpRequest) -> SessionCommand | None:
    user = request.user
    if verb == Verb.PAIR:
        typed = request.POST.get("phone", "").strip()
        return session.request_pairing(user, phone.normalise(typed) if typed else "")
    if verb == "stop":
        session.request_stop(user)
        return None
    asks = {
        Verb.START: session.request_start, Verb.RESTART: session.request_restart, Verb.LOGOUT: session.request_logout,
        Verb.CANCEL_PAIRING: session.cancel_pairing,
    }  # fmt: skip
    if verb not in asks:
        raise PermissionDenied
    return asks[Verb(verb)](user)
