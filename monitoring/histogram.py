"""A histogram of durations with fixed, log-spaced buckets: pure. Adding two of them is adding their counts.

Bucket n holds durations above `edge(n - 1)` up to `edge(n)`; a quantile read from it is at most a quarter too high.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

#: Up to this many seconds: bucket 0.
_FIRST = 0.001
_GROWTH = 1.25
#: The last bucket has everything above two minutes.
_LAST = 53

_LOG = math.log(_GROWTH)


def bucket(seconds: float) -> int:
    """Return the bucket a duration belongs to."""
    if seconds <= _FIRST:
        return 0
    return min(math.ceil(math.log(seconds / _FIRST) / _LOG - 1e-9), _LAST)


def edge(number: int) -> float:
    """Return the upper edge of a bucket in seconds."""
    return float(_FIRST * _GROWTH**number)


def merged(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of histograms as they are stored ({bucket: count})."""
    total: dict[str, int] = {}
    for histogram in histograms:
        for number, count in histogram.items():
            total[number] = total.get(number, 0) + count
    return total


def quantile(histogram: Mapping[str, int], share: float) -> float | None:
    """Return the duration in seconds that `share` of the requests stayed within; None without requests."""
    wanted = share * sum(histogram.values())
    if not wanted:
        return None
    seen = 0
    for number in sorted(histogram, key=int):
        seen += histogram[number]
        if seen >= wanted - 1e-9:
            return edge(int(number))
    raise AssertionError("the counts add up to their own sum")
