"""A database of a test's own, of the kind the run is on: SQLite, or MariaDB (make test-services)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit

#: The server `make test-services` names, or "".
SERVER = os.environ.get("TEST_DATABASE_URL", "")


class Database:
    """Empty: without a table. `url` leads to it."""

    def __init__(self, folder: Path) -> None:
        self._file, self._name = folder / "waserver.sqlite3", f"test_{uuid.uuid4().hex[:8]}"
        self.url = f"sqlite:///{self._file}"
        if SERVER.startswith("mysql"):
            self.url = f"{SERVER.rpartition('/')[0]}/{self._name}"
            self._on_server(f"CREATE DATABASE {self._name} CHARACTER SET utf8mb4")

    def empty(self) -> None:
        """Lose everything in it."""
        self.drop()
        if SERVER.startswith("mysql"):
            self._on_server(f"CREATE DATABASE {self._name} CHARACTER SET utf8mb4")

    def drop(self) -> None:
        """Take it away."""
        if SERVER.startswith("mysql"):
            self._on_server(f"DROP DATABASE {self._name}")
        else:
            self._file.unlink(missing_ok=True)

    def _on_server(self, statement: str) -> None:
        import MySQLdb

        parts = urlsplit(SERVER)
        with MySQLdb.connect(host=parts.hostname or "", port=parts.port or 3306, user=parts.username or "",
                             password=parts.password or "") as connection:  # fmt: skip
            connection.cursor().execute(statement)
