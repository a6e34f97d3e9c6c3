"""Link previews, made only when asked for: title and description of the first address in a text.

The page is fetched by `messaging.outgoing`, which refuses private addresses. No preview is no failure.
"""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

from messaging.errors import Refused
from messaging.outgoing import CallFailed, fetch
from sessions_app.whatsapp.contents import Preview

_LINK = re.compile(r"https://[^\s<>\"]+")
_LIMIT, _TIMEOUT = 500_000, timedelta(seconds=5)
_LONGEST = 300


def preview_of(text: str) -> Preview | None:
    """Return the preview of the first https address in `text`, None when there is none or its page has no title."""
    found = _LINK.search(text)
    if found is None:
        return None
    url = found[0].rstrip(".,;:!?)")
    try:
        answer = fetch(url, _LIMIT, _TIMEOUT)
    except (Refused, CallFailed):
        return None
    page = _Page()
    page.feed(answer.body.decode(errors="replace"))
    title = page.meta.get("og:title") or page.title
    if not title:
        return None
    return Preview(url, _short(title), _short(page.meta.get("og:description") or page.meta.get("description", "")))


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        if tag == "meta":
            values = {name: value or "" for name, value in attrs}
            self.meta.setdefault(values.get("property") or values.get("name", ""), values.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
