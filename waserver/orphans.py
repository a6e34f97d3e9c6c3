"""The cluster's processes end with the one that started them.

django-q2 forks a sentinel, which forks workers. When the first is killed (kill -9, out of memory), the others would go
on for ever beside the cluster started in its place: jobs would run twice, and after an update on old code.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_cluster() -> None:
    """In the cluster's process: have every process it forks end when its parent does. Linux only."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        os.register_at_fork(after_in_child=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
