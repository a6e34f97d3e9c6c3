"""Are device stores whole? About files `check` asks `python -m waserver.store_check`, a process that ends: no other
process' locks on a store are dropped by it, and a store that crashes SQLite takes nothing else down. Without Django."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
#: Seconds one store may take.
_PATIENCE = 60.0


class Verdict(StrEnum):
    """What may be said of a store."""

    WHOLE = "whole"
    MISSING = "missing"
    DAMAGED = "damaged"  # a file that is no database, or whose pages contradict each other
    EMPTY = "empty"  # whole, but no device's keys inside
    UNREADABLE = "unreadable"  # permission, disk: says nothing about the content; anything wrong within PostgreSQL


def check(stores: Sequence[str]) -> Mapping[str, tuple[Verdict, str]]:
    """Return for each store, a path or an address, a verdict and what its database said. May run beside hosts.

    Raises WhatsAppError when the PostgreSQL of an address does not answer.
    """
    from sessions_app.whatsapp import device_store  # not in the process that ends

    found = {store: _verdict_in_postgres(store) for store in stores if not device_store.is_file(store)}
    while todo := [store for store in stores if store not in found]:
        try:
            answer = subprocess.run(
                [sys.executable, "-m", "waserver.store_check", *todo], cwd=BASE, capture_output=True,
                text=True, timeout=_PATIENCE * len(todo), check=False,
            )  # fmt: skip
            lines = answer.stdout.splitlines()
        except subprocess.TimeoutExpired as expired:
            lines = (expired.stdout or b"").decode().splitlines()
        for store, line in zip(todo, lines, strict=False):
            verdict, text = json.loads(line)
            found[store] = (Verdict(verdict), text)
        if len(lines) < len(todo):
            found[todo[len(lines)]] = (Verdict.DAMAGED, "SQLite crashed or hung on it")
    return found


def _verdict_in_postgres(store: str) -> tuple[Verdict, str]:
    from sessions_app.whatsapp import device_store, postgres_store
    from sessions_app.whatsapp.client import WhatsAppError

    try:
        address = device_store.library_name(store)
    except WhatsAppError as error:  # nobody told us where it is
        return Verdict.UNREADABLE, str(error)
    try:
        devices = postgres_store.devices(address)
    except postgres_store.Damaged as error:
        return Verdict.UNREADABLE, str(error)
    if devices is None:
        return Verdict.MISSING, "the schema is not there"
    return (Verdict.WHOLE, "") if devices else (Verdict.EMPTY, "no device's keys are inside")


def verdict(store: Path) -> tuple[Verdict, str]:
    """Return what is to be said of one store. In a process of its own, see above."""
    if not store.is_file():
        return Verdict.MISSING, "the file is not there"
    try:
        with contextlib.closing(sqlite3.connect(f"{store.as_uri()}?mode=rw", uri=True, timeout=20)) as database:
            problems = [row[0] for row in database.execute("PRAGMA integrity_check(3)")]
            if problems != ["ok"]:
                return Verdict.DAMAGED, "; ".join(" ".join(str(problem).split()) for problem in problems)
            tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'whatsmeow_device'").fetchone()
            if tables is None or database.execute("SELECT 1 FROM whatsmeow_device").fetchone() is None:
                return Verdict.EMPTY, "no device's keys are inside"
            return Verdict.WHOLE, ""
    except sqlite3.OperationalError as error:
        return Verdict.UNREADABLE, str(error)
    except sqlite3.DatabaseError as error:
        return Verdict.DAMAGED, str(error)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(verdict(Path(argument))), flush=True)
