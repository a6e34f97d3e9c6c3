"""A device store: the SQLite file (or PostgreSQL schema) that holds the keys of one paired device.

While the Go library of a process has a file open, Python's sqlite3 must not open it in that same process: closing it
would drop the library's locks. So these are for a process that has not started a client on that file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from pathlib import Path

from sessions_app.whatsapp import postgres_store, ratchet
from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.ratchet import APART, FORGOTTEN, KEPT

#: `_cache_size`: KB of pages a connection keeps; with SQLite's own 2 MB every session's memory grew with its store.
_PRAGMAS = "?_journal_mode=WAL&_busy_timeout=20000&_txlock=immediate&_foreign_keys=on&_cache_size=-512&_pad="
#: A row of whatsmeow_sessions is the JSON of a conversation with one device of somebody.
_HOLD_COUNTERS = """
CREATE TRIGGER IF NOT EXISTS waserver_hold_counter AFTER UPDATE OF session ON whatsmeow_sessions
WHEN CAST(OLD.session AS TEXT) ->> '$.SessionState.SenderChain.SenderRatchetKeyPublic'
   = CAST(NEW.session AS TEXT) ->> '$.SessionState.SenderChain.SenderRatchetKeyPublic'
 AND CAST(OLD.session AS TEXT) ->> '$.SessionState.SenderChain.ChainKey.Index'
   > CAST(NEW.session AS TEXT) ->> '$.SessionState.SenderChain.ChainKey.Index'
BEGIN
    UPDATE whatsmeow_sessions
    SET session = CAST(json_set(CAST(NEW.session AS TEXT), '$.SessionState.SenderChain',
                                CAST(OLD.session AS TEXT) -> '$.SessionState.SenderChain') AS BLOB)
    WHERE our_jid = NEW.our_jid AND their_id = NEW.their_id;
END;
"""
#: What is not in use stays as it was: see `safeguard`. A conversation's states are known by what each began with.
_HOLD_STATES = """
CREATE TRIGGER IF NOT EXISTS waserver_hold_states AFTER UPDATE OF session ON whatsmeow_sessions
WHEN CAST(OLD.session AS TEXT) ->> '$.SessionState.SenderBaseKey'
  <> CAST(NEW.session AS TEXT) ->> '$.SessionState.SenderBaseKey'
BEGIN
    UPDATE whatsmeow_sessions
    SET session = CAST(json_set(CAST(NEW.session AS TEXT), '$.PreviousStates', (
        SELECT json_group_array(json(state)) FROM (
            SELECT state, min(place) FROM (
                SELECT 0 AS place, CAST(OLD.session AS TEXT) -> '$.SessionState' AS state
                UNION ALL SELECT 1 + key, value FROM json_each(CAST(OLD.session AS TEXT), '$.PreviousStates')
                UNION ALL SELECT 1000 + key, value FROM json_each(CAST(NEW.session AS TEXT), '$.PreviousStates')
            )
            WHERE state ->> '$.SenderBaseKey'
               NOT IN ('', CAST(NEW.session AS TEXT) ->> '$.SessionState.SenderBaseKey')
            GROUP BY state ->> '$.SenderBaseKey' ORDER BY min(place) LIMIT 40
        )
    )) AS BLOB)
    WHERE our_jid = NEW.our_jid AND their_id = NEW.their_id;
END;
"""
#: A row of the past is kept where the other side begins something, and else every few seconds.
_KEEP = """
CREATE TABLE IF NOT EXISTS waserver_kept (
    id INTEGER PRIMARY KEY, what TEXT NOT NULL, who TEXT NOT NULL, was BLOB NOT NULL, since INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS waserver_kept_who ON waserver_kept (what, who, id);
CREATE INDEX IF NOT EXISTS waserver_kept_since ON waserver_kept (since);
CREATE TRIGGER IF NOT EXISTS waserver_keep_few AFTER INSERT ON waserver_kept
BEGIN
    DELETE FROM waserver_kept WHERE what = NEW.what AND who = NEW.who AND id <= (
        SELECT id FROM waserver_kept WHERE what = NEW.what AND who = NEW.who ORDER BY id DESC LIMIT 1 OFFSET :kept
    );
    DELETE FROM waserver_kept WHERE since < NEW.since - :forgotten;
END;
CREATE TRIGGER IF NOT EXISTS waserver_keep_session AFTER UPDATE OF session ON whatsmeow_sessions
WHEN NOT EXISTS (SELECT 1 FROM waserver_kept
                 WHERE what = 'session' AND who = OLD.their_id AND since > unixepoch() - :apart)
  OR CAST(OLD.session AS TEXT) ->> '$.SessionState.SenderChain.SenderRatchetKeyPublic'
     IS NOT CAST(NEW.session AS TEXT) ->> '$.SessionState.SenderChain.SenderRatchetKeyPublic'
BEGIN
    INSERT INTO waserver_kept (what, who, was, since) VALUES ('session', OLD.their_id, OLD.session, unixepoch());
END;
CREATE TRIGGER IF NOT EXISTS waserver_keep_first_session AFTER INSERT ON whatsmeow_sessions
BEGIN
    INSERT INTO waserver_kept (what, who, was, since) VALUES ('session', NEW.their_id, x'', unixepoch());
END;
CREATE TRIGGER IF NOT EXISTS waserver_keep_sender_key AFTER UPDATE OF sender_key ON whatsmeow_sender_keys
WHEN NOT EXISTS (SELECT 1 FROM waserver_kept WHERE what = 'sender_key'
                 AND who = OLD.chat_id || ' ' || OLD.sender_id AND since > unixepoch() - :apart)
BEGIN
    INSERT INTO waserver_kept (what, who, was, since)
    VALUES ('sender_key', OLD.chat_id || ' ' || OLD.sender_id, OLD.sender_key, unixepoch());
END;
CREATE TRIGGER IF NOT EXISTS waserver_keep_pre_key AFTER DELETE ON whatsmeow_pre_keys
BEGIN
    INSERT INTO waserver_kept (what, who, was, since) VALUES ('pre_key', OLD.key_id, OLD.key, unixepoch());
END;
""".replace(":apart", str(APART)).replace(":kept", str(KEPT)).replace(":forgotten", str(FORGOTTEN))


def fresh_name(session_id: int, url: str) -> str:
    """Return the name of a new store, as a session keeps it: a file, or in PostgreSQL when there is a URL."""
    return postgres_store.fresh_name(session_id) if url else f"{session_id}-{uuid.uuid4().hex[:12]}.sqlite3"


def locate(name: str, folder: Path, url: str) -> str:
    """Return where the store of that name is: the path of a file in `folder`, or an address in PostgreSQL."""
    if not name.startswith(postgres_store.PREFIX):
        return str(folder / name)
    return postgres_store.address(url, name) if url else name


def library_name(store: str) -> str:
    """Return the library's name for a store: a PostgreSQL address as it is, a path with sane SQLite settings.

    Raises WhatsAppError for a path the library would cut short, and for a PostgreSQL nobody told us the address of.
    """
    if not is_file(store):
        if "://" not in store:
            raise WhatsAppError("The keys of this account are in PostgreSQL, and DEVICE_STORE_URL is not set.")
        return store
    if any(sign in store for sign in "?#%"):
        raise WhatsAppError("The path of a device store must not contain ?, # or %.")
    return store + _PRAGMAS


def is_file(store: str) -> bool:
    """Return whether the store is a file of ours, not a database elsewhere."""
    return not store.startswith("postgres")


def prepare(store: str) -> None:
    """Make what the library does not make by itself. Raises WhatsAppError."""
    if not is_file(store):
        postgres_store.create(store)


def exists(store: str) -> bool:
    """Return whether the store is there; True when the database it is in does not answer."""
    return Path(store).is_file() if is_file(store) else postgres_store.exists(store)


def holds_device(store: str) -> bool:
    """Return whether a paired device's keys are inside; True when that cannot be told, so that nothing is lost."""
    if not is_file(store):
        return postgres_store.holds_device(store)
    if not exists(store):
        return False
    try:
        with contextlib.closing(sqlite3.connect(store, timeout=5)) as database:
            tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'whatsmeow_device'").fetchone()
            return tables is not None and database.execute("SELECT 1 FROM whatsmeow_device").fetchone() is not None
    except sqlite3.Error:
        return True


def safeguard(store: str) -> None:
    """Have the store mend what would lose messages. Before the library opens it in this process.

    A counter does not go back: the library reads, changes and writes the state of a conversation without a lock: what
    it decrypts while it encrypts puts the sender's counter back (whatsmeow, 2026: decryptDM beside
    encryptMessageForDevices). The next message then has the counter of the last; its receiver takes it for a
    repetition, says "delivered" and drops it. With two accounts that write to each other all the time, 1 message in 25
    was lost so. The store puts the newer counter back in, in the write that lost it.

    Only the state that is in use changes. Two who write first at the same moment have two states of one conversation.
    The library tries the state in use on what arrives, and the others after it; what it tries changes, even if it does
    not fit (libsignal 0.2.2: DecryptWithState verifies last), and goes into the store so once another fits: after that
    neither side can read the other's next messages. And a state that came up while it began one is overwritten. In both
    cases the store puts the other states back in as they were.

    What was read last can be read again: see ratchet.py. The store keeps what that needs, and is taken back here.

    Raises WhatsAppError when that cannot be arranged.
    """
    if not is_file(store):
        postgres_store.safeguard(store)
        return
    address = f"{Path(store).as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, timeout=5, uri=True, isolation_level=None)) as database:
            database.executescript(_HOLD_COUNTERS + _HOLD_STATES + _KEEP)
            database.execute("BEGIN IMMEDIATE")
            ratchet.read_again(database.execute, "", "?")
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise WhatsAppError(f"The device store {Path(store).name} cannot be prepared: {error}.") from error


def checkpoint(store: str) -> None:
    """Move what is in the write-ahead log into the file itself, so that the one file is the whole store."""
    if is_file(store) and exists(store):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(store, timeout=5)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def delete(store: str) -> None:
    """Delete the file and what SQLite keeps beside it, or the schema."""
    if not is_file(store):
        postgres_store.delete(store)
    else:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(store + suffix).unlink(missing_ok=True)
