"""The WebSocket of health: the cards of the index, and one incident."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Max
from django.utils import timezone, translation

from monitoring import dashboard, incident_page
from monitoring.models import Incident, IncidentEntry
from sessions_app.consumers import language, users
from sessions_app.feed import Feed, Found, Watcher

#: What a browser that shows the index watches; one that shows an incident watches its id.
CARDS = "cards"
Watched = str | int
#: The channel layer's group for hints.
GROUP = "health"
#: Seconds after which the page is rendered again although no row changed: readings grow old.
_REFRESH = 10.0


class HealthConsumer(Watcher):
    """One browser. Origin is checked in asgi.py; log-in and permission at the start and at every look."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feed = feed
        self.watched: Watched = ""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Watch {"watch": "cards"} or {"watch": id of an incident}."""
        try:
            watch = json.loads(text_data or "")["watch"]
        except (ValueError, TypeError, KeyError):
            watch = None
        if watch != CARDS and (not isinstance(watch, int) or isinstance(watch, bool)):
            await self.close(4400)
            return
        self.watched = watch
        self.ask_afresh()


def may(scopes: Sequence[Any]) -> list[bool]:
    """Return of each connection whether it may watch health."""
    return [user is not None for user in users(scopes, dashboard.VIEW)]


class Renderer:
    """Renders a page's parts once for all who see the same, when a row changed and after a while."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Watched, str], tuple[int, float, str]] = {}

    def look(self, watchers: Sequence[HealthConsumer]) -> Mapping[HealthConsumer, Found]:
        """Return what each browser should now see."""
        allowed = dict(zip(watchers, users([w.scope for w in watchers], dashboard.VIEW), strict=True))
        keys = {w: (w.watched, language(w.scope)) for w, user in allowed.items() if user is not None and w.watched}
        self._render(set(keys.values()))
        return {
            watcher: None if user is None
            else {watcher.watched: self._kept[keys[watcher]][2]} if keys.get(watcher) in self._kept else {}
            for watcher, user in allowed.items()
        }  # fmt: skip

    def _render(self, keys: set[tuple[Watched, str]]) -> None:
        clock = time.monotonic()
        versions = _versions({watched for watched, _language in keys})
        self._kept = {key: kept for key, kept in self._kept.items() if key in keys and clock - kept[1] < _REFRESH}
        for watched, words in keys:
            key, version = (watched, words), versions.get(watched, 0)
            if key in self._kept and self._kept[key][0] == version:
                continue
            with translation.override(words):
                parts = _parts(watched)
            if parts is not None:
                self._kept[key] = version, clock, json.dumps({"parts": parts})


def _parts(watched: Watched) -> Mapping[str, str] | None:
    if watched == CARDS:
        return dashboard.rendered(timezone.now())
    incident = Incident.objects.filter(pk=watched).first()
    return incident_page.rendered(incident, timezone.now()) if incident else None


def _versions(watched: set[Watched]) -> dict[Watched, int]:
    """Return the versions of the cards, and of incidents: of each the last line of its timeline."""
    ids = [one for one in watched if isinstance(one, int)]
    versions: dict[Watched, int] = {CARDS: dashboard.version()} if CARDS in watched else {}
    if ids:
        rows = IncidentEntry.objects.filter(incident__in=ids).order_by().values_list("incident")
        versions |= dict(rows.annotate(last=Max("pk")))
    return versions


feed = Feed(GROUP, Renderer().look, may)
