"""A file chosen in a form: put aside at once, so that it need not be chosen again when something else is wrong."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core import signing
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminFileFieldWidget

from messaging.accept import put_aside
from messaging.errors import Refused
from messaging.models import Media
from messaging.tidying import UNSENT

_SALT = "messaging.admin.kept"
#: A form may be sent again for so long; the file itself is there for longer.
_LIFETIME = UNSENT / 2


class KeptFileInput(UnfoldAdminFileFieldWidget):  # type: ignore[misc]
    """Below the choice stands what was put aside, with a box to let go of it."""

    kept: Media | None = None

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return files.get(name) or _opened(data.get(f"{name}-kept", ""))

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        choice = super().render(name, None, attrs, renderer)
        if self.kept is None:
            return choice  # type: ignore[no-any-return]
        words = _("%(name)s (%(size)s) is kept. Choose another file to replace it, or untick it to go without.") % {
            "name": self.kept.name, "size": filesizeformat(self.kept.size)
        }  # fmt: skip
        return format_html(
            '{}<label class="wm-kept"><input type="checkbox" name="{}-kept" value="{}" checked><span>{}</span></label>',
            choice, name, signing.dumps(self.kept.pk, salt=_SALT), words,
        )  # fmt: skip


class KeptFileField(forms.FileField):
    """Its value is a stored Media, or None."""

    widget = KeptFileInput

    def clean(self, data: Any, initial: Any = None) -> Media | None:
        """Return the file. Raises ValidationError when it is empty, too large, or missing and required."""
        if not isinstance(data, Media):
            upload = super().clean(data, initial)
            try:
                data = put_aside(upload, None) if upload else None
            except Refused as refused:
                raise forms.ValidationError(refused.sentence) from None
        self.widget.kept = data
        return data


def _opened(token: str) -> Media | None:
    try:
        return Media.objects.filter(pk=signing.loads(token, salt=_SALT, max_age=_LIFETIME)).first()
    except signing.BadSignature:
        return None
