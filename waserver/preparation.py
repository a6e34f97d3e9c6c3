"""What must be so before the server is started: the library, the port, the database, the first staff user."""

from __future__ import annotations

import os
import secrets
import socket

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.library import find
from waserver import private, processes


def check_library() -> None:
    """Raise CommandError when the WhatsApp library cannot be loaded."""
    if settings.WHATSAPP_CLIENT.endswith(".NeonizeWhatsApp"):
        try:
            find(settings.WHATSAPP_LIBRARY)
        except WhatsAppError as error:
            raise CommandError(str(error)) from None


def check_port() -> None:
    """Raise CommandError when somebody else listens where the web process would."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.BIND, settings.PORT))
        except OSError as error:
            who = processes.listener(settings.PORT)
            raise CommandError(
                f"Port {settings.PORT} on {settings.BIND} is in use{' by ' + who if who else ''} ({error.strerror}). "
                "Stop that program, or choose another port: PORT=8001 make run."
            ) from None


def set_up() -> str:
    """Migrate, collect static files, make the first staff user; return what is to be said of that user, or "".

    Raises CommandError when the database cannot be used.
    """
    if left := private.make_private():
        raise CommandError(
            f"Other users of this machine may read {left[0]}, where device keys and the secret key lie. "
            f"Run `chmod go= {left[0]}` as its owner, or set VAR_DIR to a folder of your own."
        )
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except OperationalError as error:
        raise CommandError(f"The database cannot be used: {error}. Check DATABASE_URL.") from None
    call_command("collectstatic", verbosity=0, interactive=False)
    if User.objects.filter(is_superuser=True).exists():
        return ""
    given = os.environ.get("ADMIN_PASSWORD")
    password = given or secrets.token_urlsafe(12)
    User.objects.create_superuser("admin", password=password)
    shown = "the password of ADMIN_PASSWORD" if given else f"password: {password}"
    return f"\nFirst staff user: admin, {shown}\nThis is shown once. Change it after logging in.\n"
