"""What can be made to go wrong, for one phone number or for everyone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .binary_xml import Node, node

if TYPE_CHECKING:
    from .network import Network

EVERYONE = ""
"""Instead of a number: all of them, known or not."""

BAN_REASON, BAN_SECONDS = 101, 3600
"""What a refusal with 402 says unless told otherwise."""

BREAKS = {"", "refuse", "blackhole", "mute"}


@dataclass
class Refusal:
    """How a log-in is refused; `times` counts down, None is for ever."""

    code: int
    expire: int | None = None
    times: int | None = None

    def stanza(self) -> Node:
        """Return the failure the client gets."""
        banned = self.code == 402
        expire = self.expire if self.expire is not None else BAN_SECONDS
        return node("failure", {"reason": self.code, "code": BAN_REASON if banned else None,
                                "expire": expire if banned else None})  # fmt: skip


@dataclass
class Trouble:
    """What is wrong for one number."""

    silent: bool = False
    refusal: Refusal | None = None
    conflict: bool = False
    withhold_acks: bool = False
    ack_error: int | None = None


@dataclass
class Troubles:
    """Everything that is wrong. Belongs to the server's thread."""

    of: dict[str, Trouble] = field(default_factory=dict)
    pairing_refusal: int | None = None
    codes_refused: bool = False
    broken: str = ""
    delay: float = 0.0

    def at(self, number: str) -> Trouble:
        """Return the trouble of one number, to change it."""
        return self.of.setdefault(number, Trouble())

    def _both(self, number: str) -> list[Trouble]:
        return [trouble for key in (number, EVERYONE) if (trouble := self.of.get(key))]

    def silent(self, number: str) -> bool:
        """Return whether this number gets no answers."""
        return any(trouble.silent for trouble in self._both(number))

    def conflict(self, number: str) -> bool:
        """Return whether somebody else keeps winning this number."""
        return any(trouble.conflict for trouble in self._both(number))

    def withholds_acks(self, number: str) -> bool:
        """Return whether messages of this number are not acknowledged."""
        return any(trouble.withhold_acks for trouble in self._both(number))

    def ack_error(self, number: str) -> int | None:
        """Return the error its messages are acknowledged with, if any."""
        return next((trouble.ack_error for trouble in self._both(number) if trouble.ack_error is not None), None)

    def refusal(self, number: str) -> Refusal | None:
        """Return how the next log-in is refused, if it is, and count it."""
        for trouble in self._both(number):
            refusal = trouble.refusal
            if refusal is None:
                continue
            if refusal.times is not None:
                refusal.times -= 1
                if refusal.times <= 0:
                    trouble.refusal = None
            return refusal
        return None


class Faults:
    """Causes faults, from any thread. `phone` is a number in digits; without one it is everyone's."""

    def __init__(self, network: Network, run: Callable[[Callable[[], None]], None]) -> None:
        self._network, self._run = network, run

    @property
    def _troubles(self) -> Troubles:
        return self._network.troubles

    def drop(self, phone: str = EVERYONE) -> None:
        """Cut the live connections of a number, without a word."""
        self._run(lambda: [live.wire.abort() for live in self._network.live_of(phone)] and None)

    def drop_all(self) -> None:
        """Cut every connection, those that pair included."""
        self._run(lambda: [each.wire.abort() for each in list(self._network.connections)] and None)

    def refuse(self, phone: str, code: int | None, expire: int | None = None, times: int | None = None) -> None:
        """Refuse log-ins with this code; None accepts them again. `expire` (seconds) goes with 402 only."""
        refusal = None if code is None else Refusal(code, expire, times)
        self._run(lambda: setattr(self._troubles.at(phone), "refusal", refusal))

    def refuse_pairing(self, code: int | None) -> None:
        """Refuse clients that want to be paired; None accepts them again."""
        self._run(lambda: setattr(self._troubles, "pairing_refusal", code))

    def refuse_codes(self, refuse: bool = True) -> None:
        """Give out no 8-character codes."""
        self._run(lambda: setattr(self._troubles, "codes_refused", refuse))

    def remove_device(self, phone: str, device: int | None = None) -> None:
        """Unlink the devices of a number (or one of them), as its owner can on the phone."""
        self._run(lambda: self._network.unlink(phone, device))

    def silence(self, phone: str, silent: bool = True) -> None:
        """Stop answering a number; its connections stay open."""
        self._run(lambda: setattr(self._troubles.at(phone), "silent", silent))

    def conflict(self, phone: str, holding: bool = True) -> None:
        """While held, let another client with the same keys win each time: every log-in is accepted, then replaced."""
        self._run(lambda: self._hold_conflict(phone, holding))

    def break_network(self, how: str) -> None:
        """Break new connections: "refuse" (502), "blackhole" (no answer), "mute" (no handshake); "" mends it."""
        if how not in BREAKS:
            raise ValueError(f"a network cannot be broken by {how!r}")
        self._run(lambda: setattr(self._troubles, "broken", how))

    def delay(self, seconds: float) -> None:
        """Let everything the server says come this much later."""
        self._run(lambda: setattr(self._troubles, "delay", seconds))

    def stream_error(self, phone: str, code: int | str) -> None:
        """End the live connections of a number with a stream error.

        `code` is a number, "conflict replaced", "device_removed" (the device stays known), or any other word.
        """
        self._run(lambda: [live.end(stream_error(code)) for live in self._network.live_of(phone)] and None)

    def withhold_acks(self, phone: str, withhold: bool = True) -> None:
        """Deliver messages of a number, but do not acknowledge them."""
        self._run(lambda: setattr(self._troubles.at(phone), "withhold_acks", withhold))

    def ack_error(self, phone: str, code: int | None) -> None:
        """Refuse messages of a number with this error (463: restricted, 479); None accepts them again."""
        self._run(lambda: setattr(self._troubles.at(phone), "ack_error", code))

    def clear(self) -> None:
        """Mend everything."""
        self._run(lambda: setattr(self._network, "troubles", Troubles()))

    def _hold_conflict(self, phone: str, holding: bool) -> None:
        self._troubles.at(phone).conflict = holding
        if holding:
            for live in self._network.live_of(phone):
                live.replace()


def stream_error(code: int | str) -> Node:
    """Return the stanza that ends a connection."""
    if code == "conflict replaced":
        return node("stream:error", None, node("conflict", {"type": "replaced"}))
    if code == "device_removed":
        return node("stream:error", {"code": 401}, node("conflict", {"type": "device_removed"}))
    return node("stream:error", {"code": code})
