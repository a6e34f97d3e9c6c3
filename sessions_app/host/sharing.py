"""How hosts share the sessions: pure."""

from __future__ import annotations

from collections.abc import Iterable


def fair_share(sessions: int, capacities: Iterable[int]) -> int:
    """Return how many sessions each host may own so that all are owned and none has much more than another.

    A host that is full leaves its part to the larger ones; a host never owns more than its capacity.
    """
    left, share = sessions, 0
    sizes = sorted(capacities)
    for position, size in enumerate(sizes):
        hosts = len(sizes) - position
        share = -(-left // hosts)
        if share <= size:
            return share
        left -= size
    return share  # more sessions than room: everyone is full


def room(loads: Iterable[tuple[int, int]]) -> int:
    """Return how many more sessions hosts with these (capacity, sessions owned) can own."""
    return sum(max(0, capacity - owned) for capacity, owned in loads)
