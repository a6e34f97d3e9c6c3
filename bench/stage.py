"""Where a bench plays: a database, a folder and a secret of its own, all gone afterwards.

A script makes a Stage before it imports anything of Django's:

    options = arguments("What this measures.")
    options.add_argument("--sessions", type=int, default=100, help="...")
    chosen = options.parse_args()
    with Stage(chosen) as stage:
        ...
        stage.tell(seconds=1.2)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from tests.installation import Installation
    from tests.wasim import Wasim

ROOT = Path(__file__).resolve().parents[1]
_DATABASE = "waserver_bench"
#: Variables that take back what tests.installation makes quicker than in production.
PRODUCTION = {"RETRY_TIME_SCALE": "1", "HOST_STARTS_PER_SECOND": "4", "RECONNECT_GRACE": "8", "COLLECT_INTERVAL": "5"}
#: Variables that let a program send as fast as it can.
UNLIMITED = {"PACING": "0", "API_RATE": "1000000", "API_ACCOUNT_RATE": "1000000"}


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every bench has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--database-url", default="", help="a MariaDB server, e.g. mysql://root@127.0.0.1:3306/, where "
                        f"a database {_DATABASE} is made and dropped again (default: SQLite in a new folder)")
    parser.add_argument("--redis-url", default="", help="a Redis server, e.g. redis://127.0.0.1:6379/9 (default: none)")
    return parser


class Stage:
    """Sets Django up on a database of its own; `installation` adds processes and a simulator."""

    def __init__(self, options: argparse.Namespace, **environment: str) -> None:
        self._url, self._redis, self._environment = options.database_url, options.redis_url, environment
        self._sim: Wasim | None = None
        self._installation: Installation | None = None

    def __enter__(self) -> Stage:
        # The Go library and child processes print on stdout what they like: from here on it is the result's alone.
        self._result = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.folder = Path(tempfile.mkdtemp(prefix="waserver-bench-"))
        for name in ("DATABASE_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        os.environ |= {"VAR_DIR": str(self.folder), "SECRET_KEY": "for benches only", "LOG_LEVEL": "WARNING",
                       "DJANGO_SETTINGS_MODULE": "waserver.settings", **self._environment}  # fmt: skip
        if self._redis:
            os.environ["REDIS_URL"] = self._redis
        if self._url:
            self._on_server(f"CREATE DATABASE {_DATABASE} CHARACTER SET utf8mb4")
            os.environ["DATABASE_URL"] = f"{self._url.rstrip('/')}/{_DATABASE}"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if self._installation is not None:
            self._installation.close()
        if self._sim is not None:
            self._sim.__exit__(kind, error, trace)
        from django.db import connections

        connections.close_all()
        if self._url:
            self._on_server(f"DROP DATABASE {_DATABASE}")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def database(self) -> str:
        """Return the kind of database: "sqlite" or "mysql"."""
        from django.db import connection

        return connection.vendor

    def installation(self, **environment: str) -> Installation:
        """Return the processes of an installation (none yet), led to a simulator in this process."""
        from tests.installation import Installation
        from tests.wasim import Wasim

        if self._installation is None:
            self._sim = Wasim(self.folder / "wasim").__enter__()
            self._installation = Installation(self.folder, self._sim, **environment)
        return self._installation

    def end_simulator(self) -> None:
        """End the simulator in this process; what it knows stays in its folder, for one in a process of its own."""
        if self._sim is not None:
            self._sim.__exit__(None, None, None)
            self._sim = None

    def tell(self, **figures: Any) -> None:
        """Print the result: one JSON line."""
        print(json.dumps(figures), file=self._result, flush=True)

    def progress(self, text: str) -> None:
        """Say on stderr what is being done."""
        print(f"# {text}", file=sys.stderr, flush=True)

    def _on_server(self, statement: str) -> None:
        import MySQLdb

        parts = urlsplit(self._url)
        server = MySQLdb.connect(host=parts.hostname or "127.0.0.1", port=parts.port or 3306,
                                 user=parts.username or "root", password=parts.password or "")  # fmt: skip
        with server.cursor() as cursor:
            if statement.startswith("CREATE"):
                cursor.execute(f"DROP DATABASE IF EXISTS {_DATABASE}")
            cursor.execute(statement)
        server.close()


def memory_mb(pids: Iterable[int]) -> float:
    """Return the memory of these processes and their children: PSS, so that shared pages count once. In MB."""
    return _megabytes(pids, "Pss")


def private_mb(pids: Iterable[int]) -> float:
    """Return what these processes and their children have written, shared by nobody else: it does not move when other
    programs come and go. What one of a family shares with another counts once, whichever of them ends first. In MB.
    """
    return _megabytes(pids, "Pss_Anon")


def _megabytes(pids: Iterable[int], kind: str) -> float:
    """Return the sum of a line of proc(5)'s smaps_rollup, in MB."""
    total = 0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a job's own process may just have ended
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
    return round(total * 1024 / 1e6, 1)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time these processes and their children have used."""
    total = 0.0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total
