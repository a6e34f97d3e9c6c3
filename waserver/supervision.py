"""supervisord: which programs run on this machine, and the file that tells it so."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from sessions_app.host.watchdog import EXIT_CODE
from waserver.rpc import GROUP, GUARD

#: Seconds a program has to end: a host takes up to 10.
STOP_SECONDS = 15
#: A program that ends within START_SECONDS is tried RETRIES times, a second later each time; then the guard rests it.
START_SECONDS, RETRIES = 5, 3
#: Linux takes 107 bytes; supervisord first makes a socket with its process id behind the name.
_SOCKET_PATH = 95


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: str


def programs() -> list[Program]:
    """Return what runs on this machine: web, cluster, dispatcher and HOSTS session hosts."""
    python = _quoted(sys.executable)
    hosts = [Program(f"host-{n}", f"{python} manage.py run_session_host --name host-{n}")
             for n in range(1, settings.HOSTS + 1)]  # fmt: skip
    web = f"{python} -m daphne -b {settings.BIND} -p {settings.PORT} waserver.asgi:application"
    return [
        Program("web", web), Program("cluster", f"{python} manage.py qcluster --skip-checks"),
        Program("dispatcher", f"{python} manage.py run_dispatcher"), *hosts,
    ]  # fmt: skip


def write_config() -> Path:
    """Write var/run/supervisord.conf and return its path."""
    log = settings.LOG_DIR
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
    listed = programs()
    sections += [f"[group:{GROUP}]", f"programs={','.join(program.name for program in listed)}"]
    path = config_file()
    for program in listed:
        sections += [
            f"[program:{program.name}]",
            f"command={program.command}",
            *_process(program.name),
            f"startsecs={START_SECONDS}",
            f"startretries={RETRIES}",
            f"exitcodes=0,{EXIT_CODE}",  # a host ends so when it was asked to start again
            f"stopwaitsecs={STOP_SECONDS}",
            "stopasgroup=false",
            "killasgroup=true",
            # Prints of libraries; our own lines go to stderr.
            *_log("stdout", log / f"{program.name}-output.log"),
        ]
    sections += [
        f"[eventlistener:{GUARD}]",
        f"command={_quoted(sys.executable)} -m waserver.guard {_quoted(str(path))}",
        *_process(GUARD),
        "events=PROCESS_STATE,SUPERVISOR_STATE_CHANGE",
        "buffer_size=1000",
        "startsecs=1",
        "startretries=1000",
        "stopwaitsecs=3",
    ]
    path.write_text("\n".join(sections) + "\n")
    path.chmod(0o600)
    return path


def _process(name: str) -> list[str]:
    """Return what is the same for all."""
    return [
        f"directory={_escaped(settings.BASE_DIR)}",
        "autorestart=true",
        *_log("stderr", settings.LOG_DIR / f"{name}.log"),
        'environment=PYTHONUNBUFFERED="1"',
    ]


def _log(stream: str, path: Path) -> list[str]:
    return [
        f"{stream}_logfile={_escaped(_escaped(path))}",  # supervisor expands this one twice
        f"{stream}_logfile_maxbytes=10MB",
        f"{stream}_logfile_backups=5",
    ]


def server_url() -> str:
    """Return supervisord's address, as it tells it to its children."""
    return f"unix://{socket_file()}"


def config_file() -> Path:
    """Return where `write_config` writes."""
    path: Path = settings.RUN_DIR / "supervisord.conf"
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
