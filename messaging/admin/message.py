"""Messages and conversations, to look at; and what a person may decide about a message."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.decorators import action

from accounts import phone
from messaging.admin import shown
from messaging.kinds import Kind
from messaging.models import Chat, ContactPause, Event, Media, MediaState, Message
from messaging.signed_urls import url_of
from sessions_app.admin.rows import ReadOnlyAdmin
from sessions_app.explanations import moment

#: Messages on one page of a conversation.
_PAGE = 50


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ["id", "at", "account", "arrow", "conversation", "kind", "words", "status", "why"]
    list_display_links = ["id"]
    list_filter = ["state", "direction", "kind", "account"]
    search_fields = ["text", "chat__phone", "chat__name", "whatsapp_id"]
    list_select_related = ["account", "chat"]
    show_full_result_count = False
    actions = ["resend", "cancel"]
    exclude = ["epoch"]
    Media = shown.Media

    @display(description=lazy("accepted"), ordering="id")
    def at(self, message: Message) -> str:
        return moment(message.created_at)

    @display(description=lazy("way"), ordering="direction")
    def arrow(self, message: Message) -> str:
        return _("out") if message.is_out else _("in")

    @display(description=lazy("conversation"))
    def conversation(self, message: Message) -> SafeString:
        return format_html('<a class="wa-back" href="{}">{}</a>', _talk(message.chat), str(message.chat))

    @display(description=lazy("text"))
    def words(self, message: Message) -> str:
        return message.text[:80]

    @display(description=lazy("state"), ordering="state")
    def status(self, message: Message) -> SafeString:
        return shown.badge(message.state)

    @display(description=lazy("why"))
    def why(self, message: Message) -> str:
        return message.error[:120]

    @action(description=lazy("Send again (an uncertain one may arrive twice)"), permissions=["resend"])
    def resend(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        full = chosen.select_related("account", "chat", "media", "target")
        count = sum(message.resend(str(request.user)) for message in full if message.is_out)
        messages.success(request, _("%(count)d messages are queued again.") % {"count": count})

    @action(description=lazy("Cancel"), permissions=["resend"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        full = chosen.select_related("account", "chat", "media", "target")
        count = sum(message.cancel(str(request.user)) for message in full)
        messages.success(request, _("%(count)d messages are cancelled.") % {"count": count})

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("messaging.resend_message")


@admin.register(Chat)
class ChatAdmin(ReadOnlyAdmin):
    list_display = ["who", "account", "number", "lid", "last", "cold"]
    list_filter = ["account"]
    search_fields = ["name", "phone", "lid", "jid", "messages__text"]
    list_select_related = ["account"]
    ordering = ["-last_message_at", "-id"]
    show_full_result_count = False
    Media = shown.Media

    @display(description=lazy("conversation"), ordering="name")
    def who(self, chat: Chat) -> str:
        return str(chat)

    @display(description=lazy("number"), ordering="phone")
    def number(self, chat: Chat) -> str:
        return phone.display(chat.phone) or "–"

    @display(description=lazy("last message"), ordering="last_message_at")
    def last(self, chat: Chat) -> str:
        return moment(chat.last_message_at) or "–"

    @display(description=lazy("never wrote to us"), boolean=True)
    def cold(self, chat: Chat) -> bool:
        return chat.is_cold

    def get_urls(self) -> list[URLPattern]:
        talk = path("<int:pk>/talk/", self.admin_site.admin_view(self.talk_view), name="messaging_chat_talk")
        return [talk, *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "",
                    extra_context: dict[str, Any] | None = None) -> HttpResponse:  # fmt: skip
        return self.talk_view(request, int(object_id)) if object_id.isdigit() else super().change_view(
            request, object_id, form_url, extra_context)  # fmt: skip

    def talk_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The conversation: the newest messages last, older ones by a link, found ones by words."""
        chat = get_object_or_404(Chat.objects.select_related("account"), pk=pk)
        if not self.has_view_permission(request, chat):
            raise PermissionDenied
        words, before = request.GET.get("q", "").replace("\x00", "")[:100], request.GET.get("before", "")
        # An edit and a revoke are shown on the message they change, where that is known.
        told_on_target = Q(kind__in=[Kind.EDIT, Kind.REVOKE], target__isnull=False)
        rows = Message.objects.filter(chat=chat).exclude(told_on_target).select_related("media", "target")
        if words:
            rows = rows.search(words)
        if before.isascii() and before.isdigit() and len(before) < 19:
            rows = rows.filter(pk__lt=int(before))
        found = list(rows.order_by("-pk")[: _PAGE + 1])
        context = {
            **self.admin_site.each_context(request), "media": self.media, "title": str(chat), "chat": chat,
            "words": words, "number": phone.display(chat.phone),
            "older": found[_PAGE - 1].pk if len(found) > _PAGE else None,
            "lines": [_line(message) for message in reversed(found[:_PAGE])],
        }  # fmt: skip
        return TemplateResponse(request, "messaging/talk.html", context)


@admin.register(ContactPause)
class ContactPauseAdmin(ReadOnlyAdmin):
    list_display = ["account", "code", "started_at", "until", "ended_at"]
    list_filter = ["account"]


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["position", "at", "account", "kind"]
    list_filter = ["kind", "account"]
    list_select_related = ["account"]
    show_full_result_count = False


def _talk(chat: Chat) -> str:
    return reverse("admin:messaging_chat_talk", args=[chat.pk])


def _line(message: Message) -> dict[str, Any]:
    media: Media | None = message.media
    return {
        "message": message, "badge": shown.badge(message.state) if message.is_out else "",
        "at": moment(message.sent_at or message.created_at),
        "quoted": message.target.text[:120] if message.target else "",
        "media": media, "url": url_of(media.pk) if media and media.state == MediaState.STORED else "",
        "picture": bool(media and media.state == MediaState.STORED and media.mime.startswith("image/")),
        "before": message.content.get("before", []),
    }  # fmt: skip
