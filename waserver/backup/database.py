"""The database, copied while in use: SQLite by its on-line backup, MySQL and MariaDB by their own dump program."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from waserver.backup.errors import BackupError

SQLITE, MYSQL = "sqlite", "mysql"
#: Engine -> the name of its member.
MEMBER = {SQLITE: "database.sqlite3", MYSQL: "database.sql"}


def engine() -> str:
    """Return "sqlite" or "mysql"."""
    return SQLITE if connection.vendor == "sqlite" else MYSQL


def snapshot(folder: Path) -> str:
    """Copy the database into the folder as it is at one moment; return the member's name. Raises BackupError."""
    name = MEMBER[engine()]
    if engine() == SQLITE:
        copy_sqlite(Path(connection.settings_dict["NAME"]), folder / name)
    else:
        dump_mysql(folder / name)
    return name


def copy_sqlite(source: Path, copy: Path) -> None:
    """Copy a SQLite file that may be in use, into one file that needs nothing beside it. Raises BackupError.

    Never in a process that has the file open in the Go library.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{quoted(source)}?mode=rw", uri=True, timeout=20)) as of,
            contextlib.closing(sqlite3.connect(copy)) as to,
        ):
            of.backup(to)
            to.execute("PRAGMA journal_mode=DELETE")
            if (answer := to.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(answer)
    except sqlite3.Error as error:
        raise BackupError(_("%(file)s cannot be copied: %(error)s.") % {"file": source, "error": error}) from None
    copy.chmod(0o600)


def quoted(path: Path) -> str:
    """Return a path as a SQLite URI takes it."""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def dump_mysql(file: Path) -> None:
    """Write the database as SQL, from one transaction. Raises BackupError."""
    program = mysql_program("mariadb-dump", "mysqldump")
    command = [program, *login(file.parent), "--single-transaction", "--quick", "--skip-lock-tables",
               "--no-tablespaces", "--hex-blob", "--default-character-set=utf8mb4",
               str(connection.settings_dict["NAME"])]  # fmt: skip
    with file.open("xb") as out:
        file.chmod(0o600)
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BackupError(_("The database could not be dumped: %(error)s.") % {"error": _last_line(done.stderr)})


def load_mysql(file: Path, name: str) -> None:
    """Run a dump against the database `name`, which is empty. Raises BackupError."""
    command = [mysql_program("mariadb", "mysql"), *login(file.parent), "--default-character-set=utf8mb4", name]
    with file.open("rb") as dump:
        done = subprocess.run(command, stdin=dump, capture_output=True, check=False)
    if done.returncode:
        words = _last_line(done.stderr.decode(errors="replace"))
        raise BackupError(_("The database could not be loaded: %(error)s.") % {"error": words})


def mysql_program(*names: str) -> str:
    """Return the path of the first of these programs there is. Raises BackupError."""
    for name in names:
        if path := shutil.which(name):
            return path
    text = _("%(program)s is not installed, so the database cannot be backed up or restored: install the package "
             "mariadb-client.")  # fmt: skip
    raise BackupError(text % {"program": names[0]})


def login(folder: Path) -> list[str]:
    """Return the arguments that log a MySQL program in; the password goes through a file only we can read."""
    chosen: dict[str, Any] = connection.settings_dict
    host = str(chosen["HOST"] or "localhost")
    values = {"user": chosen["USER"], "password": chosen["PASSWORD"], "port": chosen["PORT"],
              "socket" if host.startswith("/") else "host": host}  # fmt: skip
    file = folder / "login.cnf"
    file.touch(0o600)
    lines = [f"{key}={_quoted_option(str(value))}\n" for key, value in values.items() if value]
    file.write_text("".join(["[client]\n", *lines]))
    return [f"--defaults-extra-file={file}"]


def _quoted_option(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].rstrip(".") if lines else _("it said nothing")
