"""The web process: HTTP by Django, WebSockets by channels."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "waserver.settings")
pages_http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 - needs the apps
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import get_resolver, path  # noqa: E402

from accounts import garbage  # noqa: E402
from messaging.api.handler import ApiHandler  # noqa: E402
from messaging.api.middleware import PREFIX  # noqa: E402
from messaging.consumers import EventConsumer  # noqa: E402
from monitoring.consumers import HealthConsumer  # noqa: E402
from sessions_app.consumers import SessionConsumer  # noqa: E402
from waserver.limits import BodyLimit  # noqa: E402

pages = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([
    path("ws/sessions/", SessionConsumer.as_asgi()), path("ws/health/", HealthConsumer.as_asgi()),
])))  # fmt: skip
programs = URLRouter([path("ws/events/", EventConsumer.as_asgi())])


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Lead browsers' sockets through origin and log-in; a program's carries its key and has no origin."""
    await (programs if scope["path"].startswith("/ws/events/") else pages)(scope, receive, send)


programs_http = ApiHandler()


async def http(scope: Any, receive: Any, send: Any) -> None:
    """Lead requests of programs past what is for people."""
    await (programs_http if scope["path"].startswith(PREFIX) else pages_http)(scope, receive, send)


application = ProtocolTypeRouter({"http": BodyLimit(http, settings.API_MAX_BODY), "websocket": websocket})

_ = get_resolver().url_patterns  # imports every view now, not with the first request
garbage.settle()
