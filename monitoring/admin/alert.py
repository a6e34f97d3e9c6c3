"""Alert channels and what they were told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from monitoring.models import AlertChannel, AlertDelivery, Change, DeliveryState
from monitoring.models.alert import CLAIM
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import AMBER, GREEN, GREY, RED, moment

#: Seconds for a process that loads Apprise, and for one that sends a message too.
CHECK_PATIENCE, TEST_PATIENCE = 30, 90

_SENDER = settings.BASE_DIR / "monitoring" / "apprise_sender.py"


def service_of(url: str) -> str:
    """Return the name of the service an Apprise URL is for. Raises ValidationError with a sentence.

    In a process of its own: Apprise is not to be loaded into a web process.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-P", str(_SENDER)], input=url, capture_output=True, text=True, timeout=CHECK_PATIENCE,
            check=True,
        )  # fmt: skip
        answer = json.loads(asked.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise ValidationError(_("The address could not be checked; try again in a moment.")) from error
    if answer["error"]:
        raise ValidationError(answer["error"], code="invalid_url")
    service: str = answer["service"]
    return service


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """The address is never sent back to a browser: an empty field keeps it."""

    address = forms.CharField(
        label=lazy("Address"), required=False, max_length=2000,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip

    class Meta:
        model = AlertChannel
        fields = ["name", "enabled", "on_warning", "on_critical", "on_resolution", "quiet_from", "quiet_to",
                  "time_zone", "daily_report", "report_at"]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        example = _("An Apprise URL, for example mailtos://user:password@smtp.example.com?to=night@example.com, "
                    "tgram://bot-token/chat or json://host/path.")  # fmt: skip
        kept = _("In use: an address for %(service)s. Leave empty to keep it.") % {"service": self.instance.service}
        self.fields["address"].help_text = kept if self.instance.pk else example

    def clean_address(self) -> str:
        """Return the address to store, and learn which service it is for."""
        typed: str = self.cleaned_data["address"].strip()
        if not typed and not self.instance.pk:
            raise ValidationError(_("Where shall alerts go? Enter an address."))
        if typed:
            self.instance.service = service_of(typed)
        return typed or self.instance.url

    def save(self, commit: bool = True) -> Any:
        if "address" in self.changed_data:  # what was known of the old address says nothing about the new one
            self.instance.last_success_at = self.instance.last_failure_at = None
            self.instance.last_error = ""
        self.instance.url = self.cleaned_data["address"]
        return super().save(commit)


def condition(channel: AlertChannel) -> tuple[str, str, str]:
    """Return a colour, a word and a sentence: how a channel does."""
    if not channel.enabled:
        return GREY, _("off"), _("It is told nothing.")
    if channel.is_failing:
        return RED, _("failing"), _("The last alert did not arrive: %(error)s") % {"error": channel.last_error}
    if channel.last_success_at is None:
        return AMBER, _("untested"), _("Nothing has been delivered yet: send a test.")
    return GREEN, _("working"), _("Last delivered %(moment)s.") % {"moment": moment(channel.last_success_at)}


def badge(channel: AlertChannel) -> SafeString:
    """Return it as the coloured badge with its sentence."""
    colour, word, sentence = condition(channel)
    return format_html('<span class="wa-badge wa-{}">{}</span> <span>{}</span>', colour, word, sentence)


@admin.register(AlertChannel)
class AlertChannelAdmin(ModelAdmin):  # type: ignore[misc]
    form = ChannelForm
    list_display = ["name", "service", "state", "told", "quiet", "daily_report"]
    change_form_outer_before_template = "monitoring/channel.html"
    fieldsets = (
        (None, {"fields": ("name", "address", "enabled")}),
        (lazy("What it is told"), {"fields": ("on_warning", "on_critical", "on_resolution", "daily_report",
                                              "report_at")}),
        (lazy("Quiet hours"), {"fields": ("quiet_from", "quiet_to", "time_zone")}),
    )  # fmt: skip

    class Media:
        css = {"all": ["sessions_app/live.css"]}

    @display(description=lazy("state"))
    def state(self, channel: AlertChannel) -> SafeString:
        return badge(channel)

    @display(description=lazy("is told"))
    def told(self, channel: AlertChannel) -> str:
        wanted = {"on_warning": _("warnings"), "on_critical": _("critical"), "on_resolution": _("resolved")}
        return ", ".join(word for name, word in wanted.items() if getattr(channel, name)) or "–"

    @display(description=lazy("quiet hours"))
    def quiet(self, channel: AlertChannel) -> str:
        if channel.quiet_from is None or channel.quiet_to is None:
            return "–"
        return f"{channel.quiet_from:%H:%M}–{channel.quiet_to:%H:%M} {channel.time_zone}"

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
                        extra_context: dict[str, Any] | None = None) -> Any:  # fmt: skip
        extra = dict(extra_context or {})
        channel = AlertChannel.objects.filter(pk=object_id).first() if object_id and object_id.isdigit() else None
        if channel is not None:
            extra |= {"channel": channel, "badge": badge(channel), "recent": channel.deliveries.all()[:10],
                      "may_test": self.has_change_permission(request, channel)}  # fmt: skip
        return super().changeform_view(request, object_id, form_url, extra)

    def get_urls(self) -> list[URLPattern]:
        own = [path("<int:pk>/test/", self.admin_site.admin_view(self.test_view), name="alert_channel_test")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test, wait for what comes of it, and say it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        channel = get_object_or_404(AlertChannel, pk=pk)
        if not self.has_change_permission(request, channel):
            raise PermissionDenied
        row = send_test(channel, request.user.get_username())
        if row.state == DeliveryState.SENT:
            messages.success(request, _("The test was delivered to %(service)s.") % {"service": channel.service})
        else:
            why = row.error or _("it was not sent in time; see var/log/web.log.")
            messages.error(request, _("The test was not delivered: %(error)s") % {"error": why})
        return HttpResponseRedirect(reverse("admin:monitoring_alertchannel_change", args=[pk]))


def send_test(channel: AlertChannel, by: str) -> AlertDelivery:
    """Send one message at once, the way every alert goes; return its row with what came of it."""
    row = channel.queue(
        f"test:{uuid.uuid4().hex}", Change.TEST, _("Test from waserver"),
        _("%(user)s pressed “Send a test” for the channel “%(channel)s”. Alerts will arrive here.\n%(link)s") % {
            "user": by, "channel": channel.name, "link": settings.SITE_URL},
        urgent=True,
    )  # fmt: skip
    row.next_at += CLAIM  # out of the cluster's reach: the process below sends it whenever it is due
    row.save()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, str(settings.BASE_DIR / "manage.py"), "deliver_alerts", "--delivery", str(row.pk)],
            cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, timeout=TEST_PATIENCE, check=False,
        )  # fmt: skip
    row.refresh_from_db()
    if row.state != DeliveryState.SENT:  # a test is not tried again behind the back of whoever pressed the button
        row.missed(timezone.now(), row.error, final=True)
    return row


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "channel", "change", "title", "condition", "attempts", "sent_at", "waits_until",
                    "error"]  # fmt: skip
    list_filter = ["state", "change", "channel"]
    list_select_related = ["channel"]
    fields = ["channel", "incident", "change", "severity", "urgent", "title", "body", "state", "attempts", "error",
              "created_at", "next_at", "sent_at"]  # fmt: skip
    show_full_result_count = False

    class Media:
        css = {"all": ["sessions_app/live.css"]}

    @display(description=lazy("state"), ordering="state")
    def condition(self, row: AlertDelivery) -> SafeString:
        colours = {DeliveryState.SENT: GREEN, DeliveryState.FAILED: RED}
        colour = colours.get(DeliveryState(row.state), AMBER if row.attempts else GREY)
        return format_html('<span class="wa-badge wa-{}">{}</span>', colour, row.get_state_display())

    @display(description=lazy("next attempt"))
    def waits_until(self, row: AlertDelivery) -> str:
        return moment(row.next_at) if row.state == DeliveryState.QUEUED else "–"
