"""The journal of observations: on disk before the database knows them, replayed when the host starts again.

So a killed process, or a database that is away, loses none. One file per host name under var/run; written, not synced:
that outlives the process, not the power. Codes to pair with are never in it: they are worthless within a minute.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sessions_app.whatsapp.client import Kind, Observation

_log = logging.getLogger(__name__)

_SECRET = frozenset({Kind.QR, Kind.PAIR_CODE})


@dataclass(frozen=True)
class Noted:
    """One observation of one session, with the epoch of the lease it was made under."""

    session_id: int
    epoch: int
    seen: Observation


class Journal:
    """One host's file. `append` and `written` from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._open = path, threading.Lock(), 0
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)

    def append(self, noted: Noted) -> None:
        """Write one down. A full disk is logged: the observation is still on its way to the database."""
        if noted.seen.kind in _SECRET:
            return
        with self._lock:
            self._open += 1
            try:
                os.write(self._file, dump(noted))
            except OSError as error:
                _log.error("The journal of observations could not be written: %s", error)

    def written(self, noted: Noted) -> None:
        """It is in the database, or will never be; when all are, the file is emptied."""
        if noted.seen.kind in _SECRET:
            return
        with self._lock:
            self._open -= 1
            if self._open == 0:
                os.ftruncate(self._file, 0)

    def left_behind(self) -> list[Noted]:
        """Return what an earlier process of this name did not get to write. They count as open from now on."""
        with self._lock:
            found = list(_read(self._path.read_bytes()))
            self._open += len(found)
            if not found:
                os.ftruncate(self._file, 0)
        return found

    def close(self) -> None:
        """End; what is open stays for the next process."""
        os.close(self._file)


def dump(noted: Noted) -> bytes:
    """Return its line."""
    seen = noted.seen
    values = {"session": noted.session_id, "epoch": noted.epoch, "kind": seen.kind, "code": seen.code,
              "at": seen.at.isoformat(), "detail": dict(seen.detail)}  # fmt: skip
    return json.dumps(values, default=str).encode() + b"\n"


def load(line: bytes) -> Noted:
    """Return what a line holds. Raises ValueError or KeyError when it was cut short."""
    values = json.loads(line)
    seen = Observation(Kind(values["kind"]), values["code"], values["detail"], datetime.fromisoformat(values["at"]))
    return Noted(values["session"], values["epoch"], seen)


def _read(text: bytes) -> Iterator[Noted]:
    for line in text.splitlines():
        try:
            yield load(line)
        except (ValueError, KeyError, TypeError):
            _log.warning("A line of the journal of observations was cut short by a kill: %d bytes", len(line))
