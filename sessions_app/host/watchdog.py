"""The fence: a host that could not renew its leases ends before they run out, even when it was paused meanwhile.

Its sockets close with it; supervisord starts it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time

_log = logging.getLogger(__name__)

#: EX_TEMPFAIL: try again.
EXIT_CODE = 75
#: Less than a log-in takes: a host that wakes up from a pause must not get one through.
_INTERVAL = 0.05


def clock() -> float:
    """Return seconds on a clock that also runs while the process is paused or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watchdog:
    """Ends the process when `deadline` has passed."""

    def __init__(self) -> None:
        self._deadline = float("inf")

    def extend(self, deadline: float) -> None:
        """Set the new deadline, in seconds of `clock`."""
        self._deadline = deadline

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop watching: no lease is held any more."""
        self._deadline = float("inf")

    def _run(self) -> None:
        while clock() < self._deadline:
            time.sleep(_INTERVAL)
        _log.critical("The leases could not be renewed in time: this host ends, another takes its sessions over")
        os._exit(EXIT_CODE)
