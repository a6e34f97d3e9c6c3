"""The journal of what arrived: on disk before the database knows it, replayed at the next start.

WhatsApp is told that a message was received once `append` has returned (tunnel.Inbound), and then will not send it
again; from here on a killed process or a database that is away loses nothing. One file per process under var/inbox,
locked by whoever writes it; a file nobody locks was left behind. Written, not synced: that outlives the process, not
the power. When the database is away the file is the only copy for longer, then `sync` is worth its price.

A process killed before that has told nobody: WhatsApp sends it again, and ratchet.py has it read once more.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from sessions_app.whatsapp.inbound import Inbound, dump, load

_log = logging.getLogger(__name__)

_SUFFIX = ".journal"


class Journal:
    """One process's file. `append` from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        draft = self._path.with_suffix(".new")
        self._file = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self._path)  # only now: a file without a lock counts as left behind
        self._lock = threading.Lock()
        self._open = 0

    def append(self, account_id: int, inbound: Inbound) -> None:
        """Write one down. Raises OSError when the disk is full; it counts as open all the same, for `stored`."""
        line = b"%d %s\n" % (account_id, dump(inbound))
        with self._lock:
            self._open += 1
            end = os.fstat(self._file).st_size
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, "the journal of what arrived could not be written in full")
            except OSError:
                os.ftruncate(self._file, end)  # half a line would spoil the next
                raise

    def stored(self, number: int) -> None:
        """So many are in the database now; when all are, the file is emptied."""
        with self._lock:
            self._open -= number
            if self._open == 0:
                os.ftruncate(self._file, 0)

    def reject(self, account_id: int, inbound: Inbound) -> None:
        """Keep one the database will never take where a person can find it."""
        with self._lock, (self._folder / "rejected").open("ab") as file:
            file.write(b"%d %s\n" % (account_id, dump(inbound)))

    def sync(self) -> None:
        """Bring it to the disk itself."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """End; a file with nothing open is deleted."""
        with self._lock:
            if self._open == 0:
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def left_behind(self) -> Iterator[tuple[Path, list[tuple[int, Inbound]]]]:
        """Yield the files processes that ended left, with what is in them; delete each once it is stored."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path == self._path:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its process lives
                yield path, list(_read(file.read().splitlines()))


def _read(lines: list[bytes]) -> Iterator[tuple[int, Inbound]]:
    for line in lines:
        account, _, rest = line.partition(b" ")
        try:
            yield int(account), load(rest)
        except (ValueError, KeyError, TypeError):
            _log.error("A line of the journal cannot be read: %d bytes", len(line))  # the last one, cut short by a kill
