"""Device stores in PostgreSQL, on a real server (make test-services): one schema per account, no second scan."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from accounts.models import Account
from sessions_app import cleanup
from sessions_app.models import Session
from sessions_app.whatsapp import device_store, postgres_store
from sessions_app.whatsapp.client import WhatsAppError
from tests.contract_real import RealSide
from tests.installation import Installation, fresh, wait_for
from tests.test_device_stores import (
    TABLES,
    check_that_counters_are_held,
    check_that_states_are_held,
    check_what_is_kept,
)
from tests.test_talk_contract import address, write_at_once
from tests.wasim import Wasim
from waserver.store_check import Verdict, check

URL = os.environ.get("TEST_DEVICE_STORE_URL", "")

needs_postgres = pytest.mark.skipif(not URL, reason="TEST_DEVICE_STORE_URL names no PostgreSQL (make test-services)")

_numbers = count(4_915_600_000_001)


@pytest.fixture
def store() -> Iterator[str]:
    """The address of a new store, dropped afterwards."""
    address = postgres_store.address(URL, postgres_store.fresh_name(1))
    postgres_store.create(address)
    yield address
    postgres_store.delete(address)


def sql(statement: str, *values: Any) -> list[Any]:
    with psycopg.connect(postgres_store.plain(URL), autocommit=True) as database:
        done = database.execute(statement, values or None)  # type: ignore[call-overload]
        return done.fetchall() if done.description else []


def test_names_tell_files_and_schemas_apart(settings: Any) -> None:
    settings.DEVICE_STORE_URL = "postgres://u:p%40@db:5432/devices?sslmode=require"
    assert device_store.fresh_name(7, "").startswith("7-")
    name = device_store.fresh_name(7, settings.DEVICE_STORE_URL)
    assert name.startswith("postgres:wa_")
    session = Session(store=name)
    assert session.store_path.startswith("postgres://u:p%40@db:5432/devices?application_name=waserver&")
    assert "&sslmode=require&search_path=wa_" in session.store_path
    assert "idle_session_timeout=300000" in device_store.library_name(session.store_path)
    assert postgres_store.plain(session.store_path).endswith("?application_name=waserver&sslmode=require")
    assert Session(store="a.sqlite3").store_path.endswith("devices/a.sqlite3")
    assert Session().store_path == ""
    settings.DEVICE_STORE_URL = ""
    with pytest.raises(WhatsAppError, match="DEVICE_STORE_URL is not set"):
        device_store.library_name(session.store_path)


def test_a_server_that_does_not_answer_loses_nothing() -> None:
    away = postgres_store.address("postgres://u@127.0.0.1:1/x", "postgres:wa_00000000_1_abcdef")
    assert device_store.exists(away)
    assert device_store.holds_device(away)
    device_store.delete(away)
    with pytest.raises(WhatsAppError, match="does not answer"):
        device_store.prepare(away)
    with pytest.raises(WhatsAppError, match="cannot be the name"):
        postgres_store.create("postgres://u@127.0.0.1:1/x?search_path=a%22b")


@needs_postgres
def test_a_store_is_made_found_and_deleted(store: str) -> None:
    assert device_store.exists(store)
    assert not device_store.holds_device(store)
    schema = postgres_store._schema(store)
    sql(f'CREATE TABLE "{schema}".whatsmeow_device (jid TEXT)')
    assert not device_store.holds_device(store)
    sql(f"INSERT INTO \"{schema}\".whatsmeow_device VALUES ('x')")
    assert device_store.holds_device(store)
    device_store.delete(store)
    assert not device_store.exists(store)
    assert not device_store.holds_device(store)


@needs_postgres
def test_recovery_reads_every_row(store: str) -> None:
    schema = postgres_store._schema(store)

    def verdict() -> tuple[Verdict, str]:
        return check([store])[store]

    assert verdict() == (Verdict.EMPTY, "no device's keys are inside")
    sql(f'CREATE TABLE "{schema}".whatsmeow_device (jid TEXT); CREATE TABLE "{schema}".whatsmeow_pre_keys (key BYTEA);'
        f'INSERT INTO "{schema}".whatsmeow_device VALUES (1); INSERT INTO "{schema}".whatsmeow_pre_keys VALUES (\'x\')')
    assert verdict() == (Verdict.WHOLE, "")
    table = "UPDATE pg_class SET relfilenode = %s WHERE oid = %s::regclass"
    number = sql("SELECT pg_relation_filenode(%s)", f"{schema}.whatsmeow_pre_keys")[0][0]
    sql(table, 4_000_000_000, f"{schema}.whatsmeow_pre_keys")  # as if the disk had lost its file
    try:
        found, text = verdict()
    finally:
        sql(table, number, f"{schema}.whatsmeow_pre_keys")
    assert found is Verdict.UNREADABLE
    assert "could not open file" in text
    postgres_store.delete(store)
    assert verdict() == (Verdict.MISSING, "the schema is not there")


@needs_postgres
@pytest.mark.parametrize("check", ["counters", "states", "kept"])
def test_the_store_mends_what_would_lose_messages(store: str, check: str) -> None:
    schema = postgres_store._schema(store)
    for name, columns in TABLES.items():
        sql(f'CREATE TABLE "{schema}".whatsmeow_{name} ({columns})')
    for _ in range(2):
        device_store.safeguard(store)

    def write(state: bytes) -> bytes:
        sql(f'INSERT INTO "{schema}".whatsmeow_sessions VALUES (%s, %s, %s) ON CONFLICT (our_jid, their_id) '
            "DO UPDATE SET session = excluded.session", "us", "them", state)  # fmt: skip
        return bytes(sql(f'SELECT session FROM "{schema}".whatsmeow_sessions')[0][0])

    if check == "counters":
        check_that_counters_are_held(write)
    elif check == "states":
        check_that_states_are_held(write)
    else:
        check_what_is_kept(
            write, lambda: [bytes(row[0]) for row in sql(f'SELECT was FROM "{schema}".waserver_kept ORDER BY id')],
            lambda seconds: sql(f'UPDATE "{schema}".waserver_kept SET since = since - %s', seconds),
        )  # fmt: skip


@needs_postgres
def test_two_who_write_at_the_same_time_lose_nothing(tmp_path: Path, sim: Wasim) -> None:
    side = RealSide(tmp_path, sim)
    side.new_store = lambda: postgres_store.address(URL, postgres_store.fresh_name(1))  # type: ignore[method-assign]
    anna, ben = (str(next(_numbers)) for _ in range(2))
    try:
        hers, his = side.online(anna), side.online(ben)
        write_at_once(hers, address(anna), his, address(ben))
    finally:
        side.close()
        for store in side.stores.values():
            postgres_store.delete(store)


@needs_postgres
@pytest.mark.django_db
def test_a_store_nobody_refers_to_goes_into_quarantine_and_a_week_later_away(settings: Any) -> None:
    settings.DEVICE_STORE_URL = URL
    now = timezone.now()
    old = int((now - timedelta(hours=2)).timestamp())
    used, orphan = f"postgres:wa_{old:08x}_8801_aaaaaa", f"postgres:wa_{old:08x}_8802_bbbbbb"
    young = postgres_store.fresh_name(8803)
    try:
        for name in (used, orphan, young):
            postgres_store.create(postgres_store.address(URL, name))
        Session.objects.filter(pk=Account.objects.create(label="a").session.pk).update(store=used)

        def put_away() -> bool:
            cleanup.quarantine_schemas(now)
            return orphan not in postgres_store.names(URL)

        wait_for(put_away, 30)  # not while another test restores keys
        assert {used, young} <= postgres_store.names(URL).keys()
        old_name = f"old_{int(now.timestamp()):08x}_{orphan.removeprefix('postgres:')}"
        there = "SELECT count(*) FROM pg_namespace WHERE nspname = %s"
        cleanup.empty_schemas(now + timedelta(days=6))
        assert sql(there, old_name) == [(1,)]
        cleanup.empty_schemas(now + timedelta(days=8))
        assert sql(there, old_name) == [(0,)]
    finally:
        for name in (used, orphan, young):
            postgres_store.delete(postgres_store.address(URL, name))


@pytest.fixture
def in_postgres(installation: Installation, settings: Any) -> Iterator[Installation]:
    """An installation whose device keys are in PostgreSQL; what it made there is dropped afterwards."""
    settings.DEVICE_STORE_URL = URL
    installation.environment["DEVICE_STORE_URL"] = URL
    yield installation
    installation.close()
    for name in Session.objects.exclude(store="").values_list("store", flat=True):
        postgres_store.delete(postgres_store.address(URL, name))


def named(installation: Installation, name: str, **more: str) -> str:
    """Have the library's connections bear a name; return the condition that finds them."""
    for key, value in {"application_name": name, **more}.items():
        sign = "&" if "?" in installation.environment["DEVICE_STORE_URL"] else "?"
        installation.environment["DEVICE_STORE_URL"] += f"{sign}{key}={value}"
    return f"application_name = '{name}' AND datname = current_database()"


def pair(installation: Installation, sim: Wasim, label: str, number: str) -> Session:
    session: Session = Account.objects.create(label=label).session
    session.request_pairing("ana")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 30, installation.log("host-1"))
    assert row
    assert sim.phone(number).scan(row.qr_text) == ""
    return installation.until(session, "connected", 30)


@needs_postgres
@pytest.mark.real
def test_two_accounts_pair_connect_survive_a_kill_and_lost_connections(in_postgres: Installation, sim: Wasim) -> None:
    numbers = [str(next(_numbers)) for _ in range(2)]
    ours = "SELECT pid FROM pg_stat_activity WHERE " + named(in_postgres, "test_kill")
    host = in_postgres.start_host()
    rows = [pair(in_postgres, sim, f"Account {n}", n) for n in numbers]
    schemas = [row.store.removeprefix("postgres:") for row in rows]
    assert [sql(f'SELECT jid FROM "{one}".whatsmeow_device') for one in schemas] == [
        [(f"{n}:1@s.whatsapp.net",)] for n in numbers
    ]  # fmt: skip
    assert not list((in_postgres.folder / "devices").glob("*.sqlite3*"))

    # SIGKILL: back without a scan, from the same keys.
    host.kill()
    wait_for(lambda: not any(sim.device(n).live_sockets for n in numbers))
    in_postgres.start_host()
    wait_for(lambda: all(sim.device(n).live_sockets == 1 for n in numbers), 60, in_postgres.log("host-1"))
    in_postgres.until_all(rows, "connected")

    # PostgreSQL restarts: its connections are cut, and no session notices, nor at its next log-in.
    held = set(sql(ours))
    assert held
    sql(f"SELECT pg_terminate_backend(pid) FROM ({ours}) AS one")
    wait_for(lambda: not held & set(sql(ours)))
    for n in numbers:
        sim.faults.drop(n)
    wait_for(lambda: all(sim.device(n).accepted_logins >= 4 for n in numbers), 30, in_postgres.log("host-1"))
    in_postgres.until_all(rows, "connected")
    assert [sim.most_live(n) for n in numbers] == [1, 1]


@needs_postgres
@pytest.mark.real
def test_an_abandoned_pairing_leaves_no_schema_and_a_missing_one_is_told(
    in_postgres: Installation, sim: Wasim
) -> None:
    in_postgres.start_host()
    session: Session = Account.objects.create(label="Front office").session
    session.request_pairing("ana")
    wait_for(lambda: fresh(session).qr_text, 30, in_postgres.log("host-1"))
    made = fresh(session).pairing_store
    assert made in postgres_store.names(URL)
    session.cancel_pairing("ana")
    in_postgres.until(session, "unpaired", 30)
    wait_for(lambda: made not in postgres_store.names(URL), 10)

    row = pair(in_postgres, sim, "Second", str(next(_numbers)))
    row.request_stop("ana")
    in_postgres.until(row, "stopped", host=None)
    postgres_store.delete(row.store_path)
    row.request_start("ana")
    in_postgres.until(row, "stopped", hold="store_missing")


@needs_postgres
@pytest.mark.real
def test_starts_do_not_pile_up_connections(
    in_postgres: Installation, sim: Wasim
) -> None:
    """Each start opens a pool that the library never closes; the server cuts what is idle."""
    ours = "SELECT count(*) FROM pg_stat_activity WHERE " + named(in_postgres, "test_idle", idle_session_timeout="2000")
    in_postgres.start_host()
    row = pair(in_postgres, sim, "Front office", str(next(_numbers)))
    for _ in range(4):
        row.request_restart("ana")
        login = sim.device(str(row.account.phone)).accepted_logins
        wait_for(lambda login=login: sim.device(str(row.account.phone)).accepted_logins > login, 30)  # type: ignore[misc]
        in_postgres.until(row, "connected", 30)
    time.sleep(4)
    assert sql(ours)[0][0] <= 2
