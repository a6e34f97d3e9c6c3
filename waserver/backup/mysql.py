"""Restoring MySQL and MariaDB: into a database beside, then all tables change places in one RENAME TABLE."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from django.db import DatabaseError, connection
from django.utils.translation import gettext as _

from waserver.backup import database
from waserver.backup.errors import BackupError
from waserver.backup.moves import Moves


class Place:
    """The database restored beside the one in use, `NAME_restored_…`; the old tables go to `NAME_before_…`."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self._name = str(connection.settings_dict["NAME"])
        stamp = f"{now:%Y%m%d%H%M%S}"
        self._new, self._old = f"{self._name}_restored_{stamp}", f"{self._name}_before_{stamp}"
        self._dump = folder / "new" / database.MEMBER[database.MYSQL]
        self.url = database_url(self._new)

    def __enter__(self) -> Place:
        self._run(f"CREATE DATABASE {_quoted(self._new)} CHARACTER SET utf8mb4")
        try:
            database.load_mysql(self._dump, self._new)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._run(f"DROP DATABASE IF EXISTS {_quoted(self._new)}")

    def plan(self, moves: Moves, stamp: str) -> None:
        """No file is moved."""

    def commit(self) -> None:
        """Swap the tables; one statement, so that nobody sees half of it."""
        pairs = [(self._name, self._old, table) for table in self._tables(self._name)]
        pairs += [(self._new, self._name, table) for table in self._tables(self._new)]
        self._run(f"CREATE DATABASE {_quoted(self._old)} CHARACTER SET utf8mb4")
        try:
            self._run("RENAME TABLE " + ", ".join(
                f"{_quoted(source)}.{_quoted(table)} TO {_quoted(to)}.{_quoted(table)}" for source, to, table in pairs
            ))  # fmt: skip
        except BaseException:
            self._run(f"DROP DATABASE IF EXISTS {_quoted(self._old)}")
            raise
        if not self._tables(self._old):
            self._run(f"DROP DATABASE {_quoted(self._old)}")

    def _tables(self, name: str) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW FULL TABLES FROM " + _quoted(name) + " WHERE Table_type = 'BASE TABLE'")
            return [row[0] for row in cursor.fetchall()]

    def _run(self, statement: str) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except DatabaseError as error:
            text = _("The database refused (%(error)s). Restoring needs a user that may create databases and rename "
                     "tables.")  # fmt: skip
            raise BackupError(text % {"error": error}) from None


def database_url(name: str) -> str:
    """Return DATABASE_URL with another database's name."""
    chosen = connection.settings_dict
    password = f":{quote(chosen['PASSWORD'], safe='')}" if chosen["PASSWORD"] else ""
    host = quote(str(chosen["HOST"] or "localhost"), safe="")
    port = f":{chosen['PORT']}" if chosen["PORT"] else ""
    return f"mysql://{quote(chosen['USER'], safe='')}{password}@{host}{port}/{name}"


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
