"""The host's side of a pairing: a disposable child process, one reader thread, JSON lines on a socket pair.

A child, because a pairing that is abandoned while a QR code is on show never lets go of its threads: the child ends by
`os._exit` instead. It also ends when its parent does, since it reads the end of the socket then. Store and proxy go
through the socket, not the command line, where every user of the machine could read them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.client import Kind, Observation, Observe, PairFailure

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_OUTCOMES = frozenset({Kind.PAIRED, Kind.PAIR_FAILED})
#: Seconds a child has to end by itself once told: it may unlink (a round trip) and close its store.
END_PATIENCE = 15.0


class ChildPairing:
    """One pairing under way. Implements client.Pairing."""

    def __init__(self, library: str, store: str, proxy: str, observe: Observe, phone: str = "") -> None:
        if device_store.is_file(store):
            store = os.path.abspath(store)
        device_store.library_name(store)  # refuses a bad path early
        self._store, self._observe = store, observe
        self._fresh = not device_store.exists(store)
        device_store.prepare(store)
        self._lock = threading.RLock()
        self._settled = self._quiet = self._paired = False
        self._socket, theirs = socket.socketpair()
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "sessions_app.whatsapp.pairing_child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=2, pass_fds=(theirs.fileno(),), start_new_session=True,
                env=_environment(),
            )  # fmt: skip
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._reader = threading.Thread(target=self._read, name="whatsapp-pairing", daemon=True)
        self._reader.start()
        self._tell({"library": library, "store": store, "proxy": proxy, "phone": phone})

    def keep(self) -> None:
        """Accept the paired phone: end the child, leaving the keys in the store."""
        self._tell({"do": "keep"})
        self._end(END_PATIENCE)

    def unlink(self) -> None:
        """Refuse the paired phone: unlink it at WhatsApp, then end. When WhatsApp does not confirm the keys stay."""
        self._tell({"do": "unlink"})
        self._end(END_PATIENCE)

    def cancel(self) -> None:
        """Give up: kill the child, and delete the store unless it holds a device. Idempotent; nothing is observed."""
        with self._lock:
            self._quiet = True
        self._end(0)

    def alive(self) -> bool:
        """Return whether the pairing still runs. See client.Pairing."""
        return self._reader.is_alive()  # not the child: its last words may not have been read

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # when it has ended the reader says so
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _end(self, patience: float) -> None:
        """Wait for the child, kill it after `patience` seconds, and wait for the reader, which tidies up."""
        try:
            if patience:
                self._child.wait(patience)
        except subprocess.TimeoutExpired:
            _log.warning("A pairing process did not end in time and is killed")
        if self._child.poll() is None:
            self._child.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _read(self) -> None:
        """Observe what the child says until it has ended, then reap it and tidy up."""
        with self._socket, self._socket.makefile("rb") as lines, contextlib.suppress(ConnectionError):
            for line in lines:
                if line.endswith(b"\n"):  # not what a killed child left unfinished
                    self._heard(json.loads(line))
        self._child.wait()
        self._emit(Observation(Kind.PAIR_FAILED, None, {
            "reason": PairFailure.CHILD_DIED, "error": f"The pairing process ended with {self._child.returncode}.",
        }))  # fmt: skip
        if not self._fresh:
            return
        if device_store.holds_device(self._store):
            device_store.checkpoint(self._store)
        else:
            device_store.delete(self._store)

    def _heard(self, message: dict[str, Any]) -> None:
        self._emit(Observation(Kind(message["kind"]), message["code"], message["detail"],
                               datetime.fromisoformat(message["at"])))  # fmt: skip

    def _emit(self, observation: Observation) -> None:
        with self._lock:
            if self._quiet or self._settled:
                return
            self._settled = observation.kind in _OUTCOMES
            self._observe(observation)


def _environment() -> dict[str, str]:
    """Return our environment, with the project on the child's path whatever its working directory."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
