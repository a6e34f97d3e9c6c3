"""The fence: a host that could not renew its leases ends before they run out, even when it was paused meanwhile.

Its sockets close with it; supervisord starts it again.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from typing import NoReturn

_log = logging.getLogger(__name__)

#: EX_TEMPFAIL: try again.
EXIT_CODE = 75
#: From <linux/timerfd.h>; Python has it from 3.13 on.
_ABSOLUTE = 1


def clock() -> float:
    """Return seconds on a clock that also runs while the process is paused or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watchdog:
    """Ends the process when the deadline has passed.

    The kernel's timer wakes its thread, so it costs nothing until then; a process that wakes up from a pause is ended
    before a log-in gets through.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._checked(self._libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC))
        self._deadline = float("inf")

    def extend(self, deadline: float) -> None:
        """Set the new deadline, in seconds of `clock`; end the process when the old one has passed."""
        if clock() >= self._deadline:  # after a pause the host's thread may run before ours, and renew
            self._expire()
        self._deadline = deadline
        seconds, nanoseconds = divmod(max(1, int(deadline * 1e9) + 1000), 1_000_000_000)
        # Every second from then on, should the deadline be moved while the thread was about to run.
        when = (ctypes.c_long * 4)(1, 0, seconds, nanoseconds)
        self._checked(self._libc.timerfd_settime(self._timer, _ABSOLUTE, when, None))

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop watching: no lease is held any more."""
        self._deadline = float("inf")
        self._checked(self._libc.timerfd_settime(self._timer, 0, (ctypes.c_long * 4)(), None))

    def _run(self) -> None:
        while clock() < self._deadline:
            os.read(self._timer, 8)
        self._expire()

    @staticmethod
    def _expire() -> NoReturn:
        _log.critical("The leases could not be renewed in time: this host ends, another takes its sessions over")
        os._exit(EXIT_CODE)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
