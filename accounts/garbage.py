"""The garbage collector of a process that serves for long."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
import time
from functools import cache

#: Seconds between two full collections.
EVERY = 600.0
#: From glibc's malloc.h.
_M_ARENA_MAX = -8


def settle_before_forks() -> None:
    """Call in a process whose children go on with what it has: a full collection in one of them would write to every
    page they share (20 MB each, bench/memory.py), so what is there at the first fork is left out of all collections.
    """
    os.register_at_fork(before=_freeze_once)


@cache
def _freeze_once() -> None:
    gc.collect()
    gc.freeze()


def settle() -> None:
    """Call once everything is imported: leave what is there out of every collection, and collect less often.

    Requests and messages make many small objects that die at once; looking through all of Django for cycles among
    them cost a tenth of the time of a request (bench/messages.py). All threads share one heap of the C library, where
    what one has freed serves the others: with a heap for each, memory grew by a tenth in an hour (bench/memory.py).

    A program with little to do takes hours to make as many objects as a collection waits for, each query of Django's
    leaving a cycle behind: so there is one every ten minutes too, which takes some milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)
    gc.collect()  # Python makes a full collection wait for a quarter of what the last one left: of nothing, now
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    with contextlib.suppress(AttributeError):  # glibc has it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _collect() -> None:
    while True:
        time.sleep(EVERY)
        gc.collect()
