"""Who may be using what a restore replaces."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil
from django.conf import settings
from django.db import Error
from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_app.models import Host
from waserver import processes
from waserver.supervision import pid_file

_PROGRAMS = ("run_session_host", "qcluster", "run_dispatcher", "waserver.asgi:application")


def live() -> list[str]:
    """Return what runs on this database and in this VAR_DIR, each as words for a sentence."""
    found = []
    with contextlib.suppress(Error):  # no database: nobody uses it
        text = _("session host %(name)s on %(machine)s")
        found += [text % {"name": host.name, "machine": host.machine} for host in Host.objects.live(timezone.now())]
    if supervisord := processes.supervisor(pid_file()):
        found.append(_("the server (process %(pid)d)") % {"pid": supervisord.pid})
    for process in psutil.process_iter(["cmdline", "environ", "cwd"]):
        command = process.info["cmdline"] or []
        program = next((one for one in _PROGRAMS if one in command), "")
        if program and _folder(process) == settings.VAR_DIR:
            found.append(_("%(program)s (process %(pid)d)") % {"program": program, "pid": process.pid})
    return found


def _folder(process: psutil.Process) -> Path:
    cwd, chosen = process.info["cwd"] or "/", (process.info["environ"] or {}).get("VAR_DIR", "var")
    return Path(os.path.join(cwd, chosen)).resolve()
