"""Are device stores whole? `check` asks `python -m waserver.store_check`, a process that ends: no other process' locks
on a store are dropped by it, and a store that crashes SQLite takes nothing else down. Without Django."""

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
    DAMAGED = "damaged"  # not a database, or its pages contradict each other
    EMPTY = "empty"  # whole, but no device's keys inside
    UNREADABLE = "unreadable"  # permission, disk: says nothing about the content


def check(stores: Sequence[Path]) -> Mapping[Path, tuple[Verdict, str]]:
    """Return for each store a verdict, and what SQLite said. May run beside hosts."""
    found: dict[Path, tuple[Verdict, str]] = {}
    while todo := [store for store in stores if store not in found]:
        try:
            answer = subprocess.run(
                [sys.executable, "-m", "waserver.store_check", *map(str, todo)], cwd=BASE, capture_output=True,
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
