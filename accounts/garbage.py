"""The garbage collector of a process that serves for long."""

from __future__ import annotations

import gc


def settle() -> None:
    """Call once everything is imported: leave what is there out of every collection, and collect less often.

    Requests and messages make many small objects that die at once; looking through all of Django for cycles among
    them cost a tenth of the time of a request (bench/messages.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.collect()  # Python makes a full collection wait for a quarter of what the last one left: of nothing, now
