"""What can be made to go wrong, for one number or for all. Read by the server, set by a test."""

from __future__ import annotations

from dataclasses import dataclass, field


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
