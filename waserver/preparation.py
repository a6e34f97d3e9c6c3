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
from django.utils.translation import gettext as _

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
            text = _(
                "Port %(port)d on %(address)s is in use (%(error)s). Stop that program, or choose another port: "
                "PORT=8001 make run."
            )
            if who:
                text = _(
                    "Port %(port)d on %(address)s is in use by %(who)s (%(error)s). Stop that program, or choose "
                    "another port: PORT=8001 make run."
                )
            names = {"port": settings.PORT, "address": settings.BIND, "who": who, "error": error.strerror}
            raise CommandError(text % names) from None


def set_up() -> str:
    """Migrate, collect static files, make the first staff user; return what is to be said of that user, or "".

    Raises CommandError when the database cannot be used.
    """
    if left := private.make_private():
        text = _(
            "Other users of this machine may read %(path)s, where device keys and the secret key lie. "
            "Run `chmod go= %(path)s` as its owner, or set VAR_DIR to a folder of your own."
        )
        raise CommandError(text % {"path": left[0]})
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except OperationalError as error:
        text = _("The database cannot be used: %(error)s. Check DATABASE_URL.")
        raise CommandError(text % {"error": error}) from None
    call_command("collectstatic", verbosity=0, interactive=False)
    if User.objects.filter(is_superuser=True).exists():
        return ""
    given = os.environ.get("ADMIN_PASSWORD")
    password = given or secrets.token_urlsafe(12)
    User.objects.create_superuser("admin", password=password)
    text = _("First staff user: admin, password: %(password)s\nThis is shown once. Change it after logging in.")
    if given:
        text = _(
            "First staff user: admin, the password of ADMIN_PASSWORD\nThis is shown once. Change it after logging in."
        )
    return "\n" + text % {"password": password} + "\n"
