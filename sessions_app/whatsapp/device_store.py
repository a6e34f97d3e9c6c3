"""A device store: the SQLite file (or PostgreSQL schema) that holds the keys of one paired device.

While the Go library of a process has a file open, Python's sqlite3 must not open it in that same process: closing it
would drop the library's locks. So these are for a process that has not started a client on that file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from pathlib import Path

from sessions_app.whatsapp import postgres_store
from sessions_app.whatsapp.client import WhatsAppError

#: `_cache_size`: KB of pages a connection keeps; with SQLite's own 2 MB every session's memory grew with its store.
_PRAGMAS = "?_journal_mode=WAL&_busy_timeout=20000&_txlock=immediate&_foreign_keys=on&_cache_size=-512&_pad="


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
