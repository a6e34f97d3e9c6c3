"""What can be made to go wrong, for one number or for all. Read by the server, set by a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection
    from .wasim import Wasim

BREAKS = {"": "", "refuse": "refused", "refused": "refused", "blackhole": "blackhole", "mute": "mute"}
"""How a network may be broken, and what the proxy calls it."""

BAN_REASON = "101"


@dataclass
class Refusal:
    """A log-in is answered with this failure code, `times` times (-1: until told otherwise)."""

    code: int
    times: int = -1
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class Rules:
    """The faults in force now; "" stands for every number."""

    refusals: dict[str, Refusal] = field(default_factory=dict)
    pairing_refusal: int | None = None
    refuse_codes: bool = False
    silenced: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)  # another client keeps taking the keys
    withheld_acks: set[str] = field(default_factory=set)
    ack_errors: dict[str, int] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)  # not on WhatsApp
    garbled: dict[str, int] = field(default_factory=dict)  # how many of the next messages to a number arrive damaged
    answering: dict[str, tuple[bool, float]] = field(default_factory=dict)  # phones: whether they read, after how long
    delay: float = 0.0

    def refusal(self, phone: str) -> Refusal | None:
        """Return the refusal for the next log-in of this number, counting it off."""
        for key in (phone, ""):
            refusal = self.refusals.get(key)
            if refusal is None or refusal.times == 0:
                continue
            refusal.times -= refusal.times > 0
            return refusal
        return None

    def holds(self, which: set[str], phone: str) -> bool:
        """Return whether a fault is in force for this number."""
        return phone in which or "" in which


class Faults:
    """Everything that can be made to go wrong, from any thread. A phone of "" means all."""

    def __init__(self, sim: Wasim) -> None:
        self._sim = sim

    def drop(self, phone: str = "") -> int:
        """Cut the logged-in sockets without a goodbye; return how many."""

        async def cut() -> int:
            live = self._live(phone)
            for connection in live:
                connection.abort()
            return len(live)

        return self._sim.run(cut())

    def drop_all(self) -> int:
        """Cut every socket, those of clients that are being paired included; return how many."""

        async def cut() -> int:
            everyone = list(self._sim.server.connections)
            for connection in everyone:
                connection.abort()
            return len(everyone)

        return self._sim.run(cut())

    def refuse(self, phone: str, code: int | None, times: int = -1, expire: int = 3600) -> None:
        """Refuse log-ins with a failure code (None: no more); 402 says it expires in `expire` seconds."""
        attributes = {"code": BAN_REASON, "expire": str(expire)} if code == 402 else {}
        self._rule(lambda rules: _put(rules.refusals, phone, Refusal(code, times, attributes) if code else None))

    def refuse_pairing(self, code: int | None) -> None:
        """Refuse clients that want to pair."""
        self._rule(lambda rules: setattr(rules, "pairing_refusal", code))

    def refuse_codes(self, refuse: bool = True) -> None:
        """Give no 8-character codes."""
        self._rule(lambda rules: setattr(rules, "refuse_codes", refuse))

    def remove_device(self, phone: str, device: str = "") -> None:
        """Unlink the devices of a number, or the one with this address, as its owner can on the phone."""

        async def remove() -> None:
            for each in self._sim.server.of(phone):
                if device in ("", str(each.jid)):
                    self._sim.server.forget(each)
                    for connection in list(each.live):
                        await connection.stream_error("401", "device_removed")

        self._sim.run(remove())

    def stream_error(self, phone: str, code: int | str = "", conflict: str = "") -> None:
        """Close the streams of a number with this error: a number or word, a conflict, or both.

        "conflict replaced" and "device_removed" stand for what WhatsApp sends then; the device stays known.
        """
        if code == "conflict replaced":
            code, conflict = "", "replaced"
        elif code == "device_removed":
            code, conflict = "401", "device_removed"

        async def send() -> None:
            for connection in self._live(phone):
                await connection.stream_error(str(code), conflict)

        self._sim.run(send())

    def silence(self, phone: str, silent: bool = True) -> None:
        """Answer nothing any more, with the sockets left open."""

        async def change() -> None:
            _mark(self._sim.server.rules.silenced, phone, silent)
            for connection in self._live(phone):
                connection.silent = silent

        self._sim.run(change())

    def conflict(self, phone: str, holding: bool = True) -> None:
        """While it holds, another client with the same keys takes every log-in over at once."""
        self._rule(lambda rules: _mark(rules.conflicts, phone, holding))
        if holding:
            self.stream_error(phone, conflict="replaced")

    def withhold_acks(self, phone: str, withhold: bool = True) -> None:
        """Take and deliver messages, and never acknowledge them."""
        self._rule(lambda rules: _mark(rules.withheld_acks, phone, withhold))

    def ack_error(self, phone: str, code: int | None) -> None:
        """Acknowledge messages with an error (463 restricted, 479) instead of delivering them."""
        self._rule(lambda rules: _put(rules.ack_errors, phone, code))

    def absent(self, phone: str, absent: bool = True) -> None:
        """Let this number not be on WhatsApp."""
        self._rule(lambda rules: _mark(rules.absent, phone, absent))

    def phone_answers(self, phone: str, read: bool = False, delay: float = 0.0) -> None:
        """Let the phone itself (every phone for "") confirm messages as delivered and, with `read`, as read."""
        self._rule(lambda rules: _put(rules.answering, phone, (read, delay)))

    def garble(self, phone: str, times: int = 1) -> None:
        """Damage the next messages to this number on their way, so that its devices cannot read them."""
        self._rule(lambda rules: _put(rules.garbled, phone, times))

    def media_error(self, status: int) -> None:
        """Refuse uploads and downloads with this HTTP status; 0 takes it back."""

        async def change() -> None:
            self._sim.server.media.error = status

        self._sim.run(change())

    def delay(self, seconds: float) -> None:
        """Wait before every answer."""
        self._rule(lambda rules: setattr(rules, "delay", seconds))

    def break_network(self, how: str) -> None:
        """New connections are "refused", a "blackhole", "mute" (open, never answered), or work again ("").

        Raises ValueError for anything else.
        """
        if how not in BREAKS:
            raise ValueError(f"a network cannot be broken by {how!r}")

        async def change() -> None:
            self._sim.proxy.broken = BREAKS[how]

        self._sim.run(change())

    def clear(self) -> None:
        """Mend everything; those kept silent hear answers again."""

        async def mend() -> None:
            self._sim.server.rules = Rules()
            self._sim.server.media.error = 0
            self._sim.proxy.broken = ""
            for connection in self._live(""):
                connection.silent, connection.delay = False, 0.0

        self._sim.run(mend())

    def _live(self, phone: str) -> list[Connection]:
        return [connection for device in self._sim.server.of(phone) for connection in device.live]

    def _rule(self, change: Callable[[Rules], Any]) -> None:
        async def apply() -> None:
            change(self._sim.server.rules)

        self._sim.run(apply())


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _mark(which: set[str], key: str, on: bool) -> None:
    if on:
        which.add(key)
    else:
        which.discard(key)
