"""Device keys in PostgreSQL are in a backup, and come back where they are missing (make test-services)."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from sessions_app import cleanup
from sessions_app.models import Session
from sessions_app.whatsapp import postgres_store
from tests.database import Database
from tests.installation import Installation, wait_for
from tests.test_device_stores import TABLES
from tests.test_postgres_stores import URL, in_postgres, needs_postgres, pair, sql
from tests.test_restore import KEY, Place
from tests.wasim import Wasim
from waserver import backup
from waserver.backup import BackupError, schemas

__all__ = ["in_postgres"]

pytestmark = needs_postgres


@pytest.fixture
def stores(settings: Any) -> Iterator[list[str]]:
    """Two stores with a device each, by name."""
    settings.DEVICE_STORE_URL = URL
    names = [postgres_store.fresh_name(n) for n in (1, 2)]
    for name in names:
        address = postgres_store.address(URL, name)
        postgres_store.create(address)
        sql(f"CREATE TABLE {table(name, 'device')} (jid TEXT, noise BYTEA)")
        sql(f"INSERT INTO {table(name, 'device')} VALUES (%s, %s)", name, b"\x00\xff")
        for each, columns in TABLES.items():
            sql(f"CREATE TABLE {table(name, each)} ({columns})")
        postgres_store.safeguard(address)
    yield names
    for name in names:
        postgres_store.delete(postgres_store.address(URL, name))


def table(name: str, what: str) -> str:
    return f'"{name.removeprefix(postgres_store.PREFIX)}".whatsmeow_{what}'


def drop(name: str) -> None:
    postgres_store.delete(postgres_store.address(URL, name))


def triggers(name: str) -> list[Any]:
    return sql("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY 1",
               table(name, "sessions"))  # fmt: skip


def test_what_is_missing_comes_back_whole_and_what_is_there_stays(stores: list[str], tmp_path: Path) -> None:
    gone, there = stores
    file = tmp_path / "devices.pgdump"
    schemas.dump(file, stores)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["devices.pgdump"]  # the password's file is not left
    held = triggers(gone)
    drop(gone)
    sql(f"UPDATE {table(there, 'device')} SET jid = 'newer'")
    assert schemas.missing(stores) == [gone]
    with schemas.restored(file, [gone]):
        pass
    assert schemas.missing(stores) == []
    assert sql(f"SELECT jid, noise FROM {table(gone, 'device')}") == [(gone, b"\x00\xff")]
    assert triggers(gone) == held == [("waserver_hold_counter",), ("waserver_hold_states",), ("waserver_keep",)]
    assert sql(f"SELECT jid FROM {table(there, 'device')}") == [("newer",)]


def test_what_a_failed_restore_had_begun_is_taken_back(stores: list[str], tmp_path: Path) -> None:
    gone, there = stores
    file = tmp_path / "devices.pgdump"
    schemas.dump(file, stores)
    drop(gone)

    def fails() -> None:
        with schemas.restored(file, [gone]):
            assert schemas.missing(stores) == []
            raise BackupError("no room")

    with pytest.raises(BackupError, match="no room"):
        fails()
    assert schemas.missing(stores) == [gone]
    assert not postgres_store.exists(postgres_store.address(URL, gone))
    schemas.check(file)
    file.write_bytes(b"PGDMP nothing of the kind")
    with pytest.raises(BackupError, match="pg_restore failed"):
        schemas.check(file)
    with pytest.raises(BackupError, match="pg_restore failed"), schemas.restored(file, [gone]):
        pass
    assert not postgres_store.exists(postgres_store.address(URL, gone))
    assert postgres_store.holds_device(postgres_store.address(URL, there))


@pytest.mark.django_db
def test_keys_that_are_restored_before_their_rows_are_not_put_away(
    stores: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, later = postgres_store.names, timezone.now() + timedelta(hours=2)
    monkeypatch.setattr(postgres_store, "names", lambda url: {name: at for name, at in names(url).items()
                                                              if name in stores})  # fmt: skip
    file = tmp_path / "devices.pgdump"
    schemas.dump(file, stores)
    drop(stores[0])
    with schemas.restored(file, stores):
        assert cleanup.quarantine_schemas(later) == 0
        assert schemas.missing(stores) == []
    wait_for(lambda: cleanup.quarantine_schemas(later) == 2, 10)
    assert schemas.missing(stores) == stores
    for name in stores:
        sql(f'DROP SCHEMA "old_{int(later.timestamp()):08x}_{name.removeprefix(postgres_store.PREFIX)}" CASCADE')


def test_a_restore_stands_when_postgresql_goes_away_at_its_end(stores: list[str], tmp_path: Path) -> None:
    file = tmp_path / "devices.pgdump"
    schemas.dump(file, stores)
    drop(stores[0])
    with schemas.restored(file, stores):
        held = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        assert (True,) in sql(held)
    assert schemas.missing(stores) == []


def test_what_cannot_be_told_or_done_is_one_sentence(stores: list[str], tmp_path: Path, settings: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    settings.DEVICE_STORE_URL = ""
    with pytest.raises(BackupError, match="set DEVICE_STORE_URL"):
        schemas.missing(stores)
    settings.DEVICE_STORE_URL = "postgres://u@127.0.0.1:1/x"
    with pytest.raises(BackupError, match="does not answer"):
        schemas.missing(stores)
    settings.DEVICE_STORE_URL = URL
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="pg_dump is not installed.*postgresql-client"):
        schemas.dump(tmp_path / "devices.pgdump", stores)


@pytest.mark.django_db(transaction=True)
def test_a_backup_says_which_keys_it_lacks(
    stores: list[str], tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VAR_DIR, settings.DEVICES_DIR, settings.RUN_DIR = tmp_path, tmp_path / "devices", tmp_path / "run"
    settings.BACKUP_URL, settings.BACKUP_KEY = str(tmp_path / "backups"), KEY
    for folder in ("devices", "run"):
        (tmp_path / folder).mkdir()
    never = f"postgres:wa_00000000_3_{uuid.uuid4().hex[:6]}"
    for n, name in enumerate([*stores, never]):
        account = Account.objects.create(label=f"Account {n}")
        Session.objects.filter(account=account).update(store=name)
    made = backup.create()
    assert (made.counts["stores"], made.counts["stores_elsewhere"], made.manifest.missing) == (2, 0, [never])
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda program: None if program == "pg_dump" else which(program))
    made = backup.create()
    assert (made.counts["stores"], made.counts["stores_elsewhere"]) == (0, 3)
    assert any("3 accounts are in PostgreSQL and NOT in this backup: pg_dump is not" in one for one in made.warnings)


@pytest.mark.real
def test_backed_up_while_connected_and_lost_all_connect_without_a_scan(
    in_postgres: Installation, sim: Wasim, another_database: Database
) -> None:
    numbers = [f"49156100000{n:02}" for n in (11, 12)]
    backups, var = in_postgres.folder / "backups", in_postgres.folder / "second"
    in_postgres.environment |= {"BACKUP_KEY": KEY, "BACKUP_URL": str(backups)}
    host = in_postgres.start_host()
    rows = [pair(in_postgres, sim, f"Account {n}", n) for n in numbers]
    made = in_postgres.manage("backup", "create", "--json")
    assert json.loads(made.stdout)["stores"] == 2, made.stderr
    host.stop()

    # The machine and one of the stores are lost; the other is in a PostgreSQL that lives on.
    drop(rows[0].store)
    place = Place(var, backups)
    in_postgres.environment |= {"VAR_DIR": str(var), "DATABASE_URL": another_database.url}
    in_postgres.environment.pop("SECRET_KEY")
    place.environment = in_postgres.environment
    rehearsed = json.loads(place.manage("backup", "restore", "--dry-run", "--json"))
    assert (rehearsed["restored"], rehearsed["stores_kept"]) == (False, 1)
    assert not postgres_store.exists(rows[0].store_path)
    assert "1 device stores in PostgreSQL were there" in place.manage("backup", "restore", "--yes")
    logins = [sim.device(n).accepted_logins for n in numbers]
    in_postgres.start_host()
    wait_for(lambda: all(sim.device(n).live_sockets == 1 for n in numbers), 60, in_postgres.log("host-1"))
    assert [sim.device(n).accepted_logins for n in numbers] == [one + 1 for one in logins]
    assert [sim.most_live(n) for n in numbers] == [1, 1]
    shutil.rmtree(var, ignore_errors=True)


@pytest.mark.real
def test_an_exported_account_connects_where_it_was_taken_in_without_a_scan(
    in_postgres: Installation, sim: Wasim, another_database: Database
) -> None:
    number, file, var = "4915610000013", in_postgres.folder / "out.age", in_postgres.folder / "second"
    in_postgres.environment["BACKUP_KEY"] = KEY
    host = in_postgres.start_host()
    row = pair(in_postgres, sim, "Front office", number)
    host.stop()
    done = in_postgres.manage("backup", "export", "Front office", str(file))
    assert "with its keys" in done.stdout, done.stderr
    drop(row.store)

    place = Place(var, in_postgres.folder / "backups")
    in_postgres.environment |= {"VAR_DIR": str(var), "DATABASE_URL": another_database.url}
    place.environment = in_postgres.environment
    place.manage("migrate")
    assert "Front office was imported" in place.manage("backup", "import", str(file), "--start")
    logins = sim.device(number).accepted_logins
    in_postgres.start_host()

    def state() -> str:
        return str(json.loads(place.manage("sessions", "list", "--json"))[0]["state"])

    wait_for(lambda: state() == "connected", 60, in_postgres.log("host-1"))
    assert (sim.device(number).accepted_logins, sim.most_live(number)) == (logins + 1, 1)
    shutil.rmtree(var, ignore_errors=True)
