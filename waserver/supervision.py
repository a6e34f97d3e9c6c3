"""supervisord: which programs run on this machine, and the file that tells it so."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

#: Seconds a program has to end: a host takes up to 10.
STOP_SECONDS = 15
#: Linux takes 107 bytes; supervisord first makes a socket with its process id behind the name.
_SOCKET_PATH = 95


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: str


def programs() -> list[Program]:
    """Return what runs on this machine: web, cluster and HOSTS session hosts."""
    python = _quoted(sys.executable)
    hosts = [Program(f"host-{n}", f"{python} manage.py run_session_host --name host-{n}")
             for n in range(1, settings.HOSTS + 1)]  # fmt: skip
    web = f"{python} -m daphne -b {settings.BIND} -p {settings.PORT} waserver.asgi:application"
    return [Program("web", web), Program("cluster", f"{python} manage.py qcluster"), *hosts]


def write_config() -> Path:
    """Write var/run/supervisord.conf and return its path."""
    run, log = settings.RUN_DIR, settings.LOG_DIR
    sections = [
        "[supervisord]",
        f"directory={_escaped(settings.BASE_DIR)}",
        f"pidfile={_escaped(pid_file())}",
        f"logfile={_escaped(log / 'supervisord.log')}",
        "logfile_maxbytes=10MB",
        "umask=077",
        "minfds=4096",
        "[unix_http_server]",
        f"file={_escaped(socket_file())}",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisorctl]",
        f"serverurl=unix://{_escaped(socket_file())}",
    ]
    for program in programs():
        sections += [
            f"[program:{program.name}]",
            f"command={program.command}",
            f"directory={_escaped(settings.BASE_DIR)}",
            "autorestart=true",
            "startsecs=2",
            "startretries=10",
            f"stopwaitsecs={STOP_SECONDS}",
            "stopasgroup=false",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escaped(_escaped(log / program.name))}.log",  # supervisor expands this one twice
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=5",
            'environment=PYTHONUNBUFFERED="1"',
        ]
    path: Path = run / "supervisord.conf"
    path.write_text("\n".join(sections) + "\n")
    path.chmod(0o600)
    return path


def pid_file() -> Path:
    """Return where supervisord writes its process id."""
    path: Path = settings.RUN_DIR / "supervisord.pid"
    return path


def socket_file() -> Path:
    """Return where supervisord listens for supervisorctl: in VAR_DIR, unless its path is too long for a socket."""
    path: Path = settings.RUN_DIR / "supervisor.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    # Not the temporary folder of the moment: every command must find the same one.
    return Path("/tmp") / f"waserver-{os.getuid()}-{name}.sock"  # noqa: S108 - supervisord makes it with mode 0600


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(value: str) -> str:
    return _escaped(f'"{value}"' if " " in value else value)
