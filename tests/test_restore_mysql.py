"""Backup and restore of MariaDB, on a real server (make test-services)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_restore import _MESSAGES, Place

URL = os.environ.get("TEST_DATABASE_URL", "")

pytestmark = pytest.mark.skipif(not URL.startswith("mysql"), reason="TEST_DATABASE_URL names no MariaDB")


class MysqlPlace(Place):
    """An installation on a database of its own."""

    def __init__(self, folder: Path, backups: Path, name: str) -> None:
        super().__init__(folder, backups)
        self.name = name
        self.environment["DATABASE_URL"] = re.sub(r"/[^/]*$", f"/{name}", URL)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        match = re.fullmatch(r"mysql://(?P<user>[^:@]+)@(?P<host>[^:/]+):(?P<port>\d+)/.*", URL)
        assert match, "these tests want mysql://USER@HOST:PORT/NAME"
        done = subprocess.run(
            ["mariadb", "-u", match["user"], "-h", match["host"], "-P", match["port"], "-N", "-B",
             "--default-character-set=utf8mb4", "-e", statement],
            capture_output=True, text=True, timeout=180, check=True,
        )  # fmt: skip
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def databases(self) -> list[str]:
        return sorted(name for (name,) in self.sql("SHOW DATABASES") if name.startswith(self.name))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[MysqlPlace]:
    place = MysqlPlace(tmp_path / "var", tmp_path / "backups", f"test_restore_{uuid.uuid4().hex[:8]}")
    place.sql(f"CREATE DATABASE {place.name} CHARACTER SET utf8mb4")
    yield place
    for name in place.databases():
        place.sql(f"DROP DATABASE {name}")


def test_everything_comes_back_the_tables_change_places_at_once_and_the_old_are_kept(place: MysqlPlace) -> None:
    place.manage("migrate", "-v0")
    place.manage("accounts", "add", "Front office", "--phone", "+62 812 0000 0001")
    place.store("1.sqlite3", "of the backup")
    place.manage("shell", "-c", _MESSAGES)
    place.sql(f"UPDATE {place.name}.sessions_app_session SET store = '1.sqlite3', lease_epoch = 7")
    place.manage("backup", "create")
    place.sql(f"UPDATE {place.name}.accounts_account SET label = 'Zoë 🐘 since'")
    place.sql(f"CREATE TABLE {place.name}.of_a_newer_version (id INT)")

    place.manage("backup", "restore", "--dry-run")
    assert place.sql(f"SELECT label FROM {place.name}.accounts_account") == [("Zoë 🐘 since",)]
    assert place.databases() == [place.name]

    printed = json.loads(place.manage("backup", "restore", "--yes", "--json"))
    assert (printed["accounts"], printed["uncertain"], printed["commands"]) == (1, 1, 1)
    assert place.sql(f"SELECT label FROM {place.name}.accounts_account") == [("Front office",)]
    assert place.sql(f"SELECT lease_epoch, host_id FROM {place.name}.sessions_app_session") == [("1007", "NULL")]
    assert place.words("1.sqlite3") == "of the backup"
    before = [name for name in place.databases() if "_before_" in name]
    assert len(before) == 1
    assert place.databases() == [place.name, *before]
    assert place.sql(f"SELECT label FROM {before[0]}.accounts_account") == [("Zoë 🐘 since",)]
    assert place.sql(f"SHOW TABLES FROM {before[0]} LIKE 'of_a_newer_version'")
    # Foreign keys went with the tables: a row that refers to nothing is refused.
    with pytest.raises(subprocess.CalledProcessError):
        place.sql(f"UPDATE {place.name}.sessions_app_session SET account_id = 999")
    place.manage("migrate", "--check")
    place.manage("shell", "-c", _EVENT)
    assert int(place.sql(f"SELECT max(id) FROM {place.name}.messaging_event")[0][0]) > 1_000_000


_EVENT = "from messaging.models import *; from messaging.models.event import EventKind; " \
    "Event.append(EventKind.TEST, None, {})"  # fmt: skip


def test_a_dump_of_another_engine_or_a_program_that_is_missing_is_told(place: MysqlPlace, tmp_path: Path) -> None:
    place.manage("migrate", "-v0")
    place.manage("backup", "create")
    sqlite = {"DATABASE_URL": f"sqlite:///{tmp_path}/other.sqlite3"}
    assert "is of a mysql database" in place.run("backup", "restore", "--yes", environment=sqlite).stderr
    done = place.run("backup", "create", environment={"PATH": "/nowhere"})
    assert "mariadb-dump is not installed" in done.stderr
    broken = {"DATABASE_URL": re.sub(r":\d+/", ":1/", place.environment["DATABASE_URL"])}
    done = place.run("backup", "create", environment=broken)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
