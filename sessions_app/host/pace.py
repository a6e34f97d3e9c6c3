"""The pace of starts: so many a second at most, each a random little later, so that hosts that start together do not
knock in step. Pure: the clock and the draw are passed in."""

from __future__ import annotations

#: Seconds a host may catch up on after a pause of its loop.
_BURST = 0.5


class Pace:
    """Lets `rate` starts a second through."""

    def __init__(self, rate: float) -> None:
        self._rate, self._next = rate, float("-inf")

    def allows(self, now: float, draw: float) -> bool:
        """Return whether one more may start, and count it; `draw` between 0 and 1 spreads the next."""
        if now < self._next:
            return False
        self._next = max(self._next, now - _BURST) + (0.5 + draw) / self._rate
        return True
