"""When a host starts itself again: the library leaves something behind at every start of a client.

A file stays open and 0.1 to 0.3 MB in use each time, as the device store is never closed (neonize 0.5.2). Sessions
that fail again and again would use up the machine, or the files a process may open, within days.
"""

from __future__ import annotations

#: Starts of clients in one process, after one for each session it has room for: some 250 MB.
MOST_STARTS = 1000
#: Share of the files a process may open.
MOST_FILES = 0.8
#: Seconds it has run by then: a limit that is too low anyway must not make it start again and again.
YOUNGEST = 3600.0


def is_due(starts: int, capacity: int, files: int, limit: int, age: float) -> bool:
    """Return whether a host that has started so many clients, has so many of `limit` files open and has run for `age`
    seconds should start again."""
    return age >= YOUNGEST and (starts - capacity >= MOST_STARTS or files >= MOST_FILES * limit)
