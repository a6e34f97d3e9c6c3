"""`make test-services`: which of MariaDB, Redis and PostgreSQL answer, then the tests on those. Every row is named.

With REQUIRE_SERVICES=1 a server that does not answer is a failure; else its row is left out, and said to be.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.machine import kind

#: Row -> the variable that leads to it, and where CI has it.
ROWS = {
    "MariaDB": ("TEST_DATABASE_URL", "mysql://root@127.0.0.1:3306/test"),
    "Redis": ("TEST_REDIS_URL", "redis://127.0.0.1:6379/15"),
    "PostgreSQL (device keys)": ("TEST_DEVICE_STORE_URL", "postgres://127.0.0.1:5432/test?sslmode=disable"),
}

#: Test files that use none of them, not even by way of our programs, and take long: `make test` runs them.
APART = ("client_contract", "doze", "pairing_child", "program_record", "relay", "restore", "talk_contract", "wasim",
         "wasim_real", "watchdog")  # fmt: skip


def _mariadb(url: str) -> str:
    import MySQLdb

    parts = urlsplit(url)
    with MySQLdb.connect(host=parts.hostname or "127.0.0.1", port=parts.port or 3306, user=parts.username or "root",
                         password=parts.password or "", connect_timeout=3) as connection:  # fmt: skip
        return str(connection.get_server_info())


def _redis(url: str) -> str:
    import redis

    with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
        info = client.info("server")
        assert isinstance(info, dict)
        return str(info["redis_version"])


def _postgresql(url: str) -> str:
    import psycopg

    with psycopg.connect(url, connect_timeout=3) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        return str(row[0] if row else "?")


_VERSIONS: dict[str, Callable[[str], str]] = {
    "MariaDB": _mariadb, "Redis": _redis, "PostgreSQL (device keys)": _postgresql,
}  # fmt: skip


def main(command: list[str]) -> int:
    """Print the matrix, run the command with it; return its exit code."""
    environment, missing = dict(os.environ), []
    for row, (variable, default) in ROWS.items():
        url = environment.get(variable) or default
        shown = urlsplit(url)
        where = f"{shown.hostname}:{shown.port}"
        try:
            version = _VERSIONS[row](url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row cannot run
            missing.append(row)
            environment.pop(variable, None)
            print(f"matrix row NOT run: {row} at {where}: {str(error).strip().splitlines()[0]}")
        else:
            environment[variable] = url
            print(f"matrix row runs: {row} {version} at {where}")
    print(f"matrix row runs: several machines as {kind()}")
    sys.stdout.flush()
    if missing and environment.get("REQUIRE_SERVICES"):
        print(f"REQUIRE_SERVICES is set, and these do not answer: {', '.join(missing)}.")
        return 1
    if len(missing) == len(ROWS):
        print("No server answers, so there is nothing to test. README.md says what is expected where.")
        return 1
    if not any(word.startswith("tests/") for word in command):
        print(f"left to make test, as they use none of these: {', '.join(APART)}")
        sys.stdout.flush()
        command = [*command, *(f"--ignore=tests/test_{name}.py" for name in APART)]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
