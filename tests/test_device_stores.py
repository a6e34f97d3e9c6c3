"""Device stores in files: what the library writes is mended where it would lose a message."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.client import WhatsAppError

#: What the library makes, as far as we go by it.
TABLES = {
    "sessions": "our_jid TEXT, their_id TEXT, session bytea, PRIMARY KEY (our_jid, their_id)",
    "sender_keys": "our_jid TEXT, chat_id TEXT, sender_id TEXT, sender_key bytea, "
                   "PRIMARY KEY (our_jid, chat_id, sender_id)",
    "pre_keys": "jid TEXT, key_id INTEGER, key bytea, uploaded BOOLEAN, PRIMARY KEY (jid, key_id)",
}  # fmt: skip


def state(key: str, counter: int, received: int) -> bytes:
    """Return a conversation's state as the library writes it, with what matters here."""
    chain = {"SenderRatchetKeyPublic": key, "ChainKey": {"Key": f"{key}{counter}", "Index": counter}, "MessageKeys": []}
    receivers: list[dict[str, Any]] = [{"ChainKey": {"Key": "/+=", "Index": received}}]
    whole = {"SessionState": {"PreviousCounter": 4294967295, "ReceiverChains": receivers, "SenderChain": chain,
                              "PendingPreKey": None}, "PreviousStates": []}  # fmt: skip
    return json.dumps(whole, separators=(",", ":")).encode()


@contextlib.contextmanager
def in_file(folder: Path) -> Iterator[tuple[sqlite3.Connection, Callable[[bytes], bytes]]]:
    """Yield a store, and what writes a state into it and returns what is there then."""
    store = folder / "store.sqlite3"
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as database:
        for name, columns in TABLES.items():
            database.execute(f"CREATE TABLE whatsmeow_{name} ({columns})")
        for _ in range(2):
            device_store.safeguard(str(store))

        def write(written: bytes) -> bytes:
            database.execute("INSERT INTO whatsmeow_sessions VALUES ('us', 'them', ?) ON CONFLICT (our_jid, their_id) "
                             "DO UPDATE SET session = excluded.session", [written])  # fmt: skip
            [(found,)] = database.execute("SELECT session FROM whatsmeow_sessions").fetchall()
            assert isinstance(found, bytes)
            return found

        yield database, write


def check_that_counters_are_held(write: Callable[[bytes], bytes]) -> None:
    """`write` stores a state and returns what is in the store then."""

    def stored(key: str, counter: int, received: int) -> Any:
        return json.loads(write(state(key, counter, received)))

    def expected(key: str, counter: int, received: int) -> Any:
        return json.loads(state(key, counter, received))

    assert stored("a", 5, 1) == expected("a", 5, 1)
    assert stored("a", 6, 1) == expected("a", 6, 1)  # something was sent
    assert stored("a", 5, 2) == expected("a", 6, 2)  # what was read meanwhile knows nothing of it
    assert stored("a", 10, 2) == expected("a", 10, 2)
    assert stored("a", 9, 3) == expected("a", 10, 3)
    assert stored("b", 0, 4) == expected("b", 0, 4)  # the answer to a new key of theirs begins anew
    assert write(b"{}") == b"{}"  # nothing known of it: left alone


def check_that_states_are_held(write: Callable[[bytes], bytes]) -> None:
    """`write` stores a state and returns what is in the store then. A conversation is known by what it began with."""

    def begun(base: str, *chain: Any) -> dict[str, Any]:
        whole: dict[str, Any] = json.loads(state(*chain))["SessionState"]
        return whole | {"SenderBaseKey": base}

    def stored(*states: dict[str, Any]) -> list[dict[str, Any]]:
        whole = json.loads(write(json.dumps({"SessionState": states[0], "PreviousStates": states[1:]}).encode()))
        return [whole["SessionState"], *whole["PreviousStates"]]

    hers, his = begun("hers", "a", 1, 0), begun("his", "b", 0, 0)
    assert stored(his) == [his]
    assert stored(hers) == [hers, his]  # begun before his was there, written after it
    spoilt = begun("hers", "x", 0, 0)
    assert stored(his, spoilt, his) == [his, hers]  # it was tried on what he wrote
    third = begun("third", "c", 0, 0)
    assert stored(third, his, hers) == [third, his, hers]
    assert stored(hers, spoilt, begun("his", "y", 0, 0)) == [hers, third, his]
    onward = begun("hers", "a", 2, 0)
    assert stored(onward, third, his) == [onward, third, his]  # the one in use goes on
    assert stored(his) == [his, onward, third]
    assert write(b"{}") == b"{}"  # nothing known of it: left alone


def check_what_is_kept(write: Callable[[bytes], bytes], kept: Callable[[], list[bytes]], age: Callable[[int], object]
                       ) -> None:  # fmt: skip
    """`write` stores a state, `kept` returns what is kept of it, `age` makes that so many seconds older."""
    write(state("a", 5, 1))
    assert kept() == [b""]  # there was nothing before
    write(state("a", 5, 2))
    assert kept() == [b""]  # the same chain, a moment later
    write(state("b", 0, 2))
    assert kept() == [b"", state("a", 5, 2)]  # they began a new one
    age(6)
    write(state("b", 0, 3))
    assert kept()[2:] == [state("b", 0, 2)]
    for key in "cdefg":
        write(state(key, 0, 4))
    assert kept() == [state(key, 0, 4 if key != "b" else 3) for key in "bcdef"]
    age(100)
    write(state("g", 0, 5))
    assert kept() == [state("g", 0, 4)]


def test_what_was_of_late_is_kept(tmp_path: Path) -> None:
    with in_file(tmp_path) as (database, write):
        check_what_is_kept(
            write, lambda: [row[0] for row in database.execute("SELECT was FROM waserver_kept ORDER BY id")],
            lambda seconds: database.execute("UPDATE waserver_kept SET since = since - ?", [seconds]),
        )  # fmt: skip


def test_a_counter_never_goes_back(tmp_path: Path) -> None:
    with in_file(tmp_path) as (_database, write):
        check_that_counters_are_held(write)


def test_what_is_not_in_use_stays_as_it_was(tmp_path: Path) -> None:
    with in_file(tmp_path) as (_database, write):
        check_that_states_are_held(write)


def test_what_cannot_be_taken_back_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = tmp_path / "store.sqlite3"
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as database:
        for name, columns in TABLES.items():
            database.execute(f"CREATE TABLE whatsmeow_{name} ({columns})")
        database.execute("CREATE TABLE whatsmeow_device (jid TEXT, identity_key bytea, signed_pre_key bytea)")
        database.execute("INSERT INTO whatsmeow_device VALUES ('us', zeroblob(32), zeroblob(32))")
        device_store.safeguard(str(store))
        for row in (b"{}", b'{"SessionState": {}}'):
            database.execute("INSERT INTO whatsmeow_sessions VALUES ('us', 'them', ?) ON CONFLICT (our_jid, their_id) "
                             "DO UPDATE SET session = excluded.session", [row])  # fmt: skip
        device_store.safeguard(str(store))
        assert database.execute("SELECT session FROM whatsmeow_sessions").fetchall() == [(row,)]
        assert database.execute("SELECT * FROM waserver_kept").fetchall() == []
    assert "cannot be taken back" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"not a database, whatever its name says" * 100])
def test_a_store_that_cannot_be_prepared_says_so_and_stays_as_it_is(tmp_path: Path, content: bytes | None) -> None:
    store = tmp_path / "store.sqlite3"
    if content is not None:
        store.write_bytes(content)
    with pytest.raises(WhatsAppError, match=r"store\.sqlite3 cannot be prepared"):
        device_store.safeguard(str(store))
    assert (store.read_bytes() if store.exists() else None) == content
