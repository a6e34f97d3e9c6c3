"""`manage.py server run`: prepare everything, then run web, cluster and hosts in the foreground."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from typing import Any

import psutil
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.library import find
from waserver.supervision import pid_file, socket_file, write_config


class Command(BaseCommand):
    help = "Run the whole server on this machine: web, cluster and session hosts, under supervisord."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        commands.add_parser("run", help="in the foreground, until Ctrl-C")
        commands.add_parser("setup", help="migrate, collect static files, make the first staff user; then end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "run":
            self._refuse_second()
            self._refuse_taken_port()
        self._check_library()
        self._set_up()
        if options["what"] == "run":
            self._run()

    def _refuse_second(self) -> None:
        try:
            pid = int(pid_file().read_text())
            if "supervisord" in " ".join(psutil.Process(pid).cmdline()):
                raise CommandError(f"waserver already runs here (process {pid}). Stop it with Ctrl-C or `kill {pid}`.")
        except (OSError, ValueError, psutil.Error):
            pid_file().unlink(missing_ok=True)  # left by a crash
        orphans = [process.pid for process in psutil.process_iter(["environ"]) if _is_ours(process.info["environ"])]
        if orphans:
            numbers = " ".join(map(str, orphans))
            raise CommandError(
                f"Processes of an earlier run whose supervisor died still run: {numbers}. End them with "
                f"`kill {numbers}`, then start again."
            )

    def _refuse_taken_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.BIND, settings.PORT))
            except OSError as error:
                raise CommandError(
                    f"Port {settings.PORT} on {settings.BIND} is in use{_by_whom(settings.PORT)} ({error.strerror}). "
                    "Stop that program, or choose another port: PORT=8001 make run."
                ) from None

    def _check_library(self) -> None:
        if settings.WHATSAPP_CLIENT.endswith(".NeonizeWhatsApp"):
            try:
                find(settings.WHATSAPP_LIBRARY)
            except WhatsAppError as error:
                raise CommandError(str(error)) from None

    def _set_up(self) -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
        except OperationalError as error:
            raise CommandError(f"The database cannot be used: {error}. Check DATABASE_URL.") from None
        call_command("collectstatic", verbosity=0, interactive=False)
        if User.objects.filter(is_superuser=True).exists():
            return
        password = os.environ.get("ADMIN_PASSWORD") or secrets.token_urlsafe(12)
        User.objects.create_superuser("admin", password=password)
        shown = "the password of ADMIN_PASSWORD" if os.environ.get("ADMIN_PASSWORD") else f"password: {password}"
        self.stdout.write(f"\nFirst staff user: admin, {shown}\nThis is shown once. Change it after logging in.\n")

    def _run(self) -> None:
        config = write_config()
        self.stdout.write(
            f"\nwaserver: http://{settings.BIND}:{settings.PORT}/  ·  logs in {settings.LOG_DIR}  ·  Ctrl-C stops it\n"
        )
        self.stdout.flush()
        # A session of its own: Ctrl-C reaches this process alone, and is passed on once.
        supervisord = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-n", "-s", "-c", str(config)],
            start_new_session=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: supervisord.terminate())
        code = supervisord.wait()
        self.stdout.write("Stopped.")
        if code not in (0, -signal.SIGTERM):
            raise CommandError(f"supervisord ended with {code}; see {settings.LOG_DIR / 'supervisord.log'}.")


def _is_ours(environment: dict[str, str] | None) -> bool:
    """Return whether a process with this environment was started by a supervisor of this installation.

    supervisord tells each child its own address, which lies in VAR_DIR; other installations of the same code, and
    what somebody runs by hand, have another or none.
    """
    return (environment or {}).get("SUPERVISOR_SERVER_URL") == f"unix://{socket_file()}"


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and connection.pid and local and local.port == port:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return ""
