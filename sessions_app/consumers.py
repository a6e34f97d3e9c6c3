"""The WebSocket of the admin: pushes sessions to a browser as they change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import translation
from django_otp import DEVICE_ID_SESSION_KEY

from sessions_app import changes
from sessions_app.feed import Feed, Found, Watcher
from sessions_app.models import Session
from sessions_app.snapshot import CONTROL, PAIR, VIEW, snapshot

#: A browser may watch so many sessions at once: a page of the list, and some.
_MOST = 500
#: Seconds after which a session is rendered again although its row did not change.
_REFRESH = 10.0


class SessionConsumer(Watcher):
    """One browser. Origin is checked in asgi.py; log-in and permission at the start and at every look."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feed = feed
        self.watched: set[int] = set()
        self.panel: int | None = None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Watch {"watch": [ids], "panel": id or null}; everything is sent afresh."""
        try:
            content = json.loads(text_data or "")
            watch, panel = content["watch"], content.get("panel")
            if not isinstance(watch, list) or not all(isinstance(pk, int) for pk in watch):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError):
            await self.close(4400)
            return
        self.panel = panel if isinstance(panel, int) else None
        self.watched = {*watch[:_MOST], *([self.panel] if self.panel else [])}
        self.ask_afresh()


def users(scopes: Sequence[Any], *permissions: str) -> list[User | None]:
    """Return each connection's user as the database knows it now, or None when logged out, disabled or not allowed.

    Any one of the permissions is enough. Where a second factor is demanded of staff (TWO_FACTOR), the log-in must have
    had one. A log-in is looked up once however many connections share it.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    keys = [getattr(scope.get("session"), "session_key", None) for scope in scopes]
    alive = {key for key in set(keys) if key and store.exists(key)}
    pks = {scope["user"].pk for scope in scopes if scope.get("user") is not None and scope["user"].is_authenticated}
    fresh = {user.pk: user for user in User.objects.filter(pk__in=pks, is_active=True, is_staff=True)}
    allowed = {pk: user for pk, user in fresh.items() if any(map(user.has_perm, permissions))}
    return [
        allowed.get(scope["user"].pk) if key in alive and scope.get("user") and _verified(scope) else None
        for scope, key in zip(scopes, keys, strict=True)
    ]


def _verified(scope: Any) -> bool:
    return settings.TWO_FACTOR != "required" or DEVICE_ID_SESSION_KEY in scope["session"]


def may(scopes: Sequence[Any]) -> list[bool]:
    """Return of each connection whether it may watch sessions."""
    return [user is not None for user in users(scopes, *VIEW)]


def language(scope: Any) -> str:
    """Return the language of a connection, chosen as for the page it belongs to."""
    accepted = dict(scope.get("headers", ())).get(b"accept-language", b"").decode("latin-1")
    request = SimpleNamespace(COOKIES=scope.get("cookies", {}), META={"HTTP_ACCEPT_LANGUAGE": accepted})
    return translation.get_language_from_request(request)  # type: ignore[arg-type]


class Renderer:
    """Renders a session once for all who see the same, and again after a while: a lease may have run out meanwhile."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[int, float, str]] = {}

    def look(self, watchers: Sequence[SessionConsumer]) -> Mapping[SessionConsumer, Found]:
        """Return what each browser should now see of the sessions it watches."""
        ids = set().union(*(watcher.watched for watcher in watchers))
        versions = dict(Session.objects.filter(pk__in=ids).values_list("pk", "version"))
        wanted: dict[SessionConsumer, list[tuple[Any, ...]]] = {}
        found: dict[SessionConsumer, Found] = {}
        viewers: dict[tuple[Any, ...], User] = {}
        for watcher, user in zip(watchers, users([w.scope for w in watchers], *VIEW), strict=True):
            if user is None:
                found[watcher] = None
                continue
            seen_by = (user.has_perm(PAIR), user.has_perm(CONTROL), language(watcher.scope))
            wanted[watcher] = [(pk, pk == watcher.panel, *seen_by) for pk in watcher.watched & versions.keys()]
            viewers |= dict.fromkeys(wanted[watcher], user)
        self._render(viewers, versions)
        for watcher, keys in wanted.items():
            found[watcher] = {key[0]: self._kept[key][2] for key in keys if key in self._kept}
        return found

    def _render(self, viewers: Mapping[tuple[Any, ...], User], versions: Mapping[int, int]) -> None:
        now = time.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if key in viewers and now - kept[1] < _REFRESH}
        old = [key for key in viewers if key not in self._kept or self._kept[key][0] != versions[key[0]]]
        rows = Session.objects.select_related("account", "host").in_bulk({key[0] for key in old}) if old else {}
        for key in old:
            if (row := rows.get(key[0])) is not None:
                with translation.override(key[-1]):
                    self._kept[key] = row.version, now, json.dumps(snapshot(row, viewers[key], key[1]))


feed = Feed(changes.GROUP, Renderer().look, may)
