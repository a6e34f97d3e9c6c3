"""Many paired device stores quickly: copies of one, each with a number of its own. For load, not for messages."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from .device import Device
from .wasim import Wasim


def clone_device(sim: Wasim, store: Path, copy: Path, number: str) -> Device:
    """Copy a paired store (open in no process) as the device of another number, known to the simulator."""
    with contextlib.closing(sqlite3.connect(store)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        old_jid, old_lid = target.execute("SELECT jid, lid FROM whatsmeow_device").fetchone()
        known = sim.devices[old_jid]
        new_jid = old_jid.replace(known.phone, number)
        new_lid = old_lid.replace(known.lid_user, sim.server.phone(number).lid_user)
        target.execute("PRAGMA foreign_keys = off")
        for (table,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for column in [row[1] for row in target.execute(f"PRAGMA table_info({table})")]:
                target.execute(
                    f"UPDATE {table} SET {column} = replace(replace({column}, ?, ?), ?, ?)"  # noqa: S608
                    f" WHERE typeof({column}) = 'text'",
                    (known.phone, number, known.lid_user, sim.server.phone(number).lid_user),
                )
        target.commit()
    return sim.add_device(new_jid, new_lid, known)
