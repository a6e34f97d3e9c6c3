"""Bulk sends: begun from a CSV file, with a progress bar, paused, resumed, and a result for each person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from accounts import phone
from messaging.accept import copy_of
from messaging.admin import shown
from messaging.admin.kept import KeptFileField
from messaging.bulks import KINDS, make_bulk, read_csv
from messaging.errors import Refused
from messaging.kinds import CAPTION_MAX, TEXT_MAX, Kind
from messaging.models import Bulk, BulkRecipient, Media, MediaState
from messaging.signed_urls import url_of

_NAMES = {
    Kind.TEXT: lazy("Text"), Kind.IMAGE: lazy("Picture"), Kind.VIDEO: lazy("Video"), Kind.DOCUMENT: lazy("Document"),
}  # fmt: skip
#: Refusal -> the field it is said beside; the others are about the account.
_FIELDS = {
    "csv_invalid": "file", "too_many_recipients": "file", "template_invalid": "text", "media_missing": "attachment",
    "media_type": "attachment", "invalid_request": "kind",
}  # fmt: skip

#: Results shown on the page of a bulk send.
_SHOWN = 200


class BulkForm(forms.ModelForm):  # type: ignore[type-arg]
    """Everything is checked before the first message goes out."""

    kind = forms.ChoiceField(
        label=lazy("Kind"), widget=UnfoldAdminSelectWidget, choices=[(kind.value, _NAMES[kind]) for kind in KINDS],
    )  # fmt: skip
    text = forms.CharField(
        label=lazy("Text"), widget=UnfoldAdminTextareaWidget, max_length=TEXT_MAX, required=False,
        help_text=lazy("{{name}} is filled in from the column “name”; {{name|there}} has a default; {Hi|Hello} becomes "
                       "one of its parts for each person. With a file it is the caption, and may be empty."),
    )  # fmt: skip
    attachment = KeptFileField(label=lazy("File"), required=False)
    file = KeptFileField(
        label=lazy("Recipients"),
        help_text=lazy("CSV in UTF-8 with a heading line and a column “phone”; other columns are variables."),
    )  # fmt: skip

    class Meta:
        model = Bulk
        fields = ["account", "name"]
        labels = {"account": lazy("Account")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["attachment"].help_text = _(
            "A picture is JPEG or PNG, a video MP4 or 3GPP, a document anything; at most %(limit)d MB."
        ) % {"limit": settings.MEDIA_MAX_BYTES // 1_000_000}

    def clean(self) -> dict[str, Any]:
        """Make the bulk send; what is refused is said beside its field."""
        given = super().clean() or self.cleaned_data
        if self.errors:
            return given
        try:
            kind = Kind(given["kind"])
            content, media = _content(kind, given["text"], given["attachment"])
            people = read_csv(given["file"].read())
            self.made = make_bulk(given["account"], given["name"], kind, content, people, by=self.by, media=media)
        except Refused as refused:
            self.add_error(_FIELDS.get(refused.code, "account"), refused.sentence)
        return given

    by = ""
    made: Bulk


def _content(kind: Kind, text: str, attachment: Media | None) -> tuple[dict[str, Any], Media | None]:
    """Return what each message carries: the content, and the file not yet saved. Raises Refused as the API does."""
    if kind is Kind.TEXT:
        if attachment is not None:
            raise Refused("invalid_request", _("A text carries no file: choose what the file is to be sent as."))
        if not text:
            raise Refused("template_invalid", _("Write the text."))
        return {"text": text, "mentions": [], "preview": False}, None
    if attachment is None:
        raise Refused("media_missing", _("Choose the file to send."))
    if len(text) > CAPTION_MAX:
        raise Refused("template_invalid", _("A caption has at most %(most)d characters.") % {"most": CAPTION_MAX})
    content = {"caption": text}
    if kind is Kind.DOCUMENT:
        content["filename"] = attachment.name
    return content, copy_of(kind, attachment)


class RecipientInline(TabularInline):  # type: ignore[misc]
    model = BulkRecipient
    fields = readonly_fields = ["number", "status", "why"]
    extra = 0
    can_delete = False
    hide_title = True  # it would repeat the number
    verbose_name_plural = lazy("results (the first 200)")

    @display(description=lazy("number"))
    def number(self, recipient: BulkRecipient) -> str:
        return phone.display(recipient.phone) if recipient.phone.isdigit() else recipient.phone

    @display(description=lazy("state"))
    def status(self, recipient: BulkRecipient) -> SafeString:
        return shown.badge(recipient.message.state if recipient.message else recipient.state)

    @display(description=lazy("why"))
    def why(self, recipient: BulkRecipient) -> str:
        return recipient.error or (recipient.message.error if recipient.message else "")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkRecipient]:
        rows = super().get_queryset(request).select_related("message")
        bulk = str(request.resolver_match.kwargs.get("object_id", "0")) if request.resolver_match else "0"
        first = BulkRecipient.objects.filter(bulk_id=bulk).order_by("pk").values_list("pk", flat=True)[:_SHOWN]
        return rows.filter(pk__in=list(first))  # type: ignore[no-any-return]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Bulk)
class BulkAdmin(ModelAdmin):  # type: ignore[misc]
    form = BulkForm
    list_display = ["name", "account", "status", "bar", "created_by", "created_at"]
    list_filter = ["state", "account"]
    search_fields = ["name"]
    list_select_related = ["account"]
    actions = ["pause", "resume", "cancel"]
    autocomplete_fields = ["account"]
    Media = shown.Media

    @display(description=lazy("state"))
    def status(self, bulk: Bulk) -> SafeString:
        return shown.badge(bulk.state)

    @display(description=lazy("progress"))
    def bar(self, bulk: Bulk) -> SafeString:
        counts = bulk.progress()
        total = counts.pop("total")
        done = total - sum(counts.get(state, 0) for state in ("waiting", "queued", "sending"))
        words = ", ".join(f"{shown.BADGES[state][0]} {count}" for state, count in sorted(counts.items()))
        return format_html(
            '<span class="wm-bar"><progress max="{}" value="{}">{}/{}</progress><span>{}/{}: {}</span></span>',
            max(total, 1), done, done, total, done, total, words,
        )  # fmt: skip

    def get_inlines(self, request: HttpRequest, obj: Bulk | None) -> list[Any]:
        return [RecipientInline] if obj is not None else []

    def get_fields(self, request: HttpRequest, obj: Bulk | None = None) -> list[str]:
        if obj is None:
            return ["account", "name", "kind", "text", "attachment", "file"]
        return ["account", "name", "status", "bar", *(["attachment"] if obj.media else []), "words"]

    def get_readonly_fields(self, request: HttpRequest, obj: Bulk | None = None) -> list[str]:
        return [] if obj is None else ["status", "bar", "attachment", "words"]

    @display(description=lazy("file"))
    def attachment(self, bulk: Bulk) -> str:
        media: Media | None = bulk.media
        if media is None:
            return ""
        name = f"{_NAMES[Kind(bulk.kind)]}: {media}"
        if media.state != MediaState.STORED:
            return name
        return format_html('<a class="wa-back" href="{}">{}</a>', url_of(media.pk), name)

    @display(description=lazy("text"))
    def words(self, bulk: Bulk) -> str:
        return str(bulk.content.get("text") or bulk.content.get("caption", ""))

    def get_form(self, request: HttpRequest, obj: Bulk | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, form=forms.ModelForm, **kwargs)
        form = super().get_form(request, obj, change, **kwargs)
        form.by = str(request.user)
        return form

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        return form.made

    def save_model(self, request: HttpRequest, obj: Bulk, form: Any, change: bool) -> None:
        """The form has stored it, with its recipients, in one transaction."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """As above."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and request.user.has_perm("messaging.send_message")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @action(description=lazy("Pause"), permissions=["control"])
    def pause(self, request: HttpRequest, bulks: QuerySet[Bulk]) -> None:
        _each(request, [bulk.pause for bulk in bulks])

    @action(description=lazy("Resume"), permissions=["control"])
    def resume(self, request: HttpRequest, bulks: QuerySet[Bulk]) -> None:
        _each(request, [bulk.resume for bulk in bulks])

    @action(description=lazy("Cancel"), permissions=["control"])
    def cancel(self, request: HttpRequest, bulks: QuerySet[Bulk]) -> None:
        _each(request, [lambda bulk=bulk: bulk.cancel(str(request.user)) for bulk in bulks])  # type: ignore[misc]

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("messaging.control_bulk")


def _each(request: HttpRequest, verbs: list[Callable[[], bool]]) -> None:
    done = sum(verb() for verb in verbs)
    tell = messages.success if done else messages.warning
    tell(request, _("%(done)d of %(all)d bulk sends changed.") % {"done": done, "all": len(verbs)})
