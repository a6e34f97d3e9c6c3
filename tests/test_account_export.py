"""One account moves to another installation: out, in, and every refusal."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pyrage
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from accounts.models import Account
from sessions_app.models import Host, Session
from sessions_app.whatsapp import postgres_store
from tests.test_postgres_stores import URL, needs_postgres, sql
from tests.test_restore_postgres import drop, stores, table
from waserver.backup import BackupError, account

__all__ = ["stores"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(tmp_path: Path, settings: Any) -> Session:
    """A paired, stopped account in an installation of its own."""
    for name in ("devices", "run"):
        (tmp_path / name).mkdir()
    settings.VAR_DIR, settings.DEVICES_DIR, settings.RUN_DIR = tmp_path, tmp_path / "devices", tmp_path / "run"
    settings.BACKUP_KEY = str(pyrage.x25519.Identity.generate())
    settings.BACKUP_URL = str(tmp_path / "backups")
    with contextlib.closing(sqlite3.connect(tmp_path / "devices" / "1.sqlite3")) as store:
        store.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
        store.execute("INSERT INTO whatsmeow_device VALUES ('here')")
        store.commit()
    row: Session = Account.objects.create(
        label="Front office", phone="6281200000001", proxy="http://u:pw@proxy.example:80", important=True
    ).session
    Session.objects.filter(pk=row.pk).update(
        store="1.sqlite3", state="stopped", paired_at=timezone.now(), push_name="Front", lid="1@lid"
    )
    return Session.objects.get(pk=row.pk)


def test_an_account_arrives_with_its_keys_and_stays_offline(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "out.age"
    call_command("backup", "export", "Front office", str(file))
    assert file.stat().st_mode & 0o077 == 0
    assert b"6281200000001" not in file.read_bytes()
    Account.objects.all().delete()
    call_command("backup", "import", str(file))
    row = Session.objects.select_related("account").get()
    made = row.account
    assert (made.label, made.phone, made.proxy, made.important, made.desired) == (
        "Front office", "6281200000001", "http://u:pw@proxy.example:80", True, "offline",
    )  # fmt: skip
    assert (row.state, row.push_name, row.lid, row.host) == ("stopped", "Front", "1@lid", None)
    assert row.paired_at == session.paired_at
    with contextlib.closing(sqlite3.connect(row.store_path)) as store:
        assert store.execute("SELECT jid FROM whatsmeow_device").fetchone() == ("here",)


def test_it_is_started_only_on_demand(session: Session, tmp_path: Path) -> None:
    account.export(session, tmp_path / "out.age")
    Account.objects.all().delete()
    made = account.take_in(tmp_path / "out.age", start=True)
    made.refresh_from_db()
    assert made.desired == "online"
    assert made.session.due_at is not None


def test_an_account_without_keys_moves_too(session: Session, tmp_path: Path) -> None:
    Session.objects.update(store="", state="unpaired", paired_at=None)
    session.refresh_from_db()
    account.export(session, tmp_path / "out.age")
    Account.objects.all().delete()
    account.take_in(tmp_path / "out.age")
    assert Session.objects.get().state == "unpaired"


@pytest.mark.parametrize(("label", "phone", "words"), [
    ("Front office", "6281200000009", "already exists"), ("Another", "6281200000001", "already belongs to"),
])  # fmt: skip
def test_a_label_or_number_that_is_here_is_refused(
    session: Session, tmp_path: Path, label: str, phone: str, words: str
) -> None:
    account.export(session, tmp_path / "out.age")
    Account.objects.update(label=label, phone=phone)
    with pytest.raises(CommandError, match=words):
        call_command("backup", "import", str(tmp_path / "out.age"))
    assert Account.objects.count() == 1
    assert [file.name for file in (tmp_path / "devices").iterdir()] == ["1.sqlite3"]


def test_a_session_in_use_is_not_exported(session: Session, tmp_path: Path) -> None:
    Session.objects.update(host=Host.objects.create(name="host-1"))
    with pytest.raises(CommandError, match="in use by host-1: stop it first"):
        call_command("backup", "export", "Front office", str(tmp_path / "out.age"))
    assert not (tmp_path / "out.age").exists()


def test_wrong_files_are_refused(session: Session, tmp_path: Path, settings: Any) -> None:
    from waserver import backup

    made = backup.create()
    with pytest.raises(BackupError, match="whole backup"):
        account.take_in(tmp_path / "backups" / made.name)
    with pytest.raises(BackupError, match="There is no file"):
        account.take_in(tmp_path / "nothing")
    account.export(session, tmp_path / "out.age")
    with pytest.raises(BackupError, match="exists already"):
        account.export(session, tmp_path / "out.age")
    with pytest.raises(BackupError, match="export of one account"):
        backup.restore(str(tmp_path / "out.age"))
    (tmp_path / "devices" / "1.sqlite3").unlink()
    with pytest.raises(BackupError, match="no keys to export"):
        account.export(session, tmp_path / "other.age")
    settings.BACKUP_KEY = str(pyrage.x25519.Identity.generate())
    with pytest.raises(BackupError, match="made with another"):
        account.take_in(tmp_path / "out.age")


def test_keys_in_a_postgresql_nobody_named_are_not_exported(session: Session, tmp_path: Path, settings: Any) -> None:
    settings.DEVICE_STORE_URL = ""
    Session.objects.update(store="postgres:wa_00000000_1_abcdef")
    with pytest.raises(CommandError, match="DEVICE_STORE_URL is not set"):
        call_command("backup", "export", "Front office", str(tmp_path / "out.age"))
    assert not (tmp_path / "out.age").exists()


def test_a_number_of_another_country_arrives_as_it_is(session: Session, tmp_path: Path) -> None:
    Account.objects.update(phone="819012345678")  # typed, it would be 0819-0123-45678
    account.export(Session.objects.get(), tmp_path / "out.age")
    with pytest.raises(BackupError, match="already exists"):  # the label; the number is asked for as well
        account.take_in(tmp_path / "out.age")
    Account.objects.update(label="Renamed")
    with pytest.raises(BackupError, match="already belongs to the account “Renamed”"):
        account.take_in(tmp_path / "out.age")
    Account.objects.all().delete()
    assert account.take_in(tmp_path / "out.age").phone == "819012345678"
    assert Account.objects.get().phone == "819012345678"


def test_keys_stay_when_an_imported_account_cannot_be_started(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.export(session, tmp_path / "out.age")
    Account.objects.all().delete()
    monkeypatch.setattr(Session, "request_start", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        account.take_in(tmp_path / "out.age", start=True)
    assert Path(Session.objects.get().store_path).exists()


@pytest.fixture
def in_schema(session: Session, stores: list[str]) -> Session:
    """The account, with its keys in PostgreSQL."""
    Session.objects.update(store=stores[0])
    session.refresh_from_db()
    return session


@needs_postgres
def test_keys_in_postgresql_arrive_and_those_that_are_there_stay(in_schema: Session, tmp_path: Path) -> None:
    file, name = tmp_path / "out.age", in_schema.store
    account.export(in_schema, file)
    Account.objects.all().delete()
    drop(name)
    account.take_in(file)
    row = Session.objects.get()
    assert (row.store, row.state, row.paired_at) == (name, "stopped", in_schema.paired_at)
    assert sql(f"SELECT jid, noise FROM {table(name, 'device')}") == [(name, b"\x00\xff")]

    Account.objects.all().delete()
    sql(f"UPDATE {table(name, 'device')} SET jid = 'newer'")
    account.take_in(file)
    assert Session.objects.get().store == name
    assert sql(f"SELECT jid FROM {table(name, 'device')}") == [("newer",)]


@needs_postgres
def test_keys_that_are_gone_from_postgresql_are_told(in_schema: Session, tmp_path: Path) -> None:
    drop(in_schema.store)
    with pytest.raises(BackupError, match="no keys to export"):
        account.export(in_schema, tmp_path / "out.age")
    assert not (tmp_path / "out.age").exists()


@needs_postgres
def test_keys_in_postgresql_serve_one_account(in_schema: Session, tmp_path: Path) -> None:
    account.export(in_schema, tmp_path / "out.age")
    Account.objects.update(label="Renamed", phone="6281200000009")
    with pytest.raises(BackupError, match="one set of keys serves one account"):
        account.take_in(tmp_path / "out.age")
    assert Account.objects.count() == 1


@needs_postgres
def test_of_a_refused_import_nothing_is_left_in_postgresql(
    in_schema: Session, tmp_path: Path, settings: Any
) -> None:
    file, address = tmp_path / "out.age", postgres_store.address(URL, in_schema.store)
    account.export(in_schema, file)
    drop(in_schema.store)
    Session.objects.update(store="")
    with pytest.raises(BackupError, match="already exists"):
        account.take_in(file)
    assert not postgres_store.exists(address)
    settings.DEVICE_STORE_URL = ""
    Account.objects.all().delete()
    with pytest.raises(BackupError, match="The keys of this account are for PostgreSQL: set DEVICE_STORE_URL"):
        account.take_in(file)
    assert not Account.objects.exists()
