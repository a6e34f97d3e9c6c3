"""What the server knows of one linked device, and what it has counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .binary_xml import Node
from .jid import HIDDEN_USERS, USERS, Jid

if TYPE_CHECKING:
    from .connection import Connection


@dataclass
class Message:
    """A message a device sent: its id, to whom, and when (seconds since 1970)."""

    id: str
    to: str
    at: float


@dataclass
class Device:
    """One device of a number. Times are seconds since 1970; counters start with the simulator."""

    phone: str
    number: int  # of the device
    lid_user: str
    identity: bytes
    account_identity: bytes  # the ADVSignedDeviceIdentity it signed, as it sent it
    noise: bytes = b""  # the key it must log in with; unknown in files of old
    login_times: list[float] = field(default_factory=list)
    accepted_logins: int = 0
    replaced: int = 0
    doubled_at: list[float] = field(default_factory=list)  # log-ins while another was live
    max_live_sockets: int = 0
    messages: list[Message] = field(default_factory=list)  # it sent these; one sent twice is here twice
    delivered: Counter[str] = field(default_factory=Counter)  # messages handed to it, by id
    chat_states: list[str] = field(default_factory=list)  # it showed these: composing, paused
    keepalives: int = 0  # it asked so often whether the server is there
    confirmed: Counter[str] = field(default_factory=Counter)  # messages it confirmed, by id
    prekeys: list[tuple[bytes, bytes]] = field(default_factory=list)  # id, public key
    registration: bytes = b""
    signed_prekey: tuple[bytes, bytes, bytes] = (b"", b"", b"")  # id, public key, signature
    waiting: dict[tuple[str, str], Node] = field(default_factory=dict)  # not yet acknowledged, by tag and id
    live: list[Connection] = field(default_factory=list)

    @property
    def jid(self) -> Jid:
        """Its address by phone number."""
        return Jid(self.phone, USERS, self.number)

    @property
    def lid(self) -> Jid:
        """Its hidden address."""
        return Jid(self.lid_user, HIDDEN_USERS, self.number)

    @property
    def logins(self) -> int:
        """How often it tried to log in, refused attempts included."""
        return len(self.login_times)

    @property
    def live_sockets(self) -> int:
        """How many connections are logged in as this device now."""
        return len(self.live)

    def tried(self) -> None:
        """Count an attempt."""
        self.login_times.append(time.time())

    def came(self, connection: Connection) -> None:
        """Count an accepted log-in."""
        if self.live:
            self.doubled_at.append(time.time())
        self.live.append(connection)
        self.accepted_logins += 1
        self.max_live_sockets = max(self.max_live_sockets, len(self.live))

    def went(self, connection: Connection) -> None:
        """Count its end."""
        if connection in self.live:
            self.live.remove(connection)

    def saved(self) -> dict[str, Any]:
        """Return what has to outlive the simulator."""
        return {"phone": self.phone, "number": self.number, "lid_user": self.lid_user,
                "identity": self.identity.hex(), "account_identity": self.account_identity.hex(),
                "noise": self.noise.hex()}  # fmt: skip

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Device:
        """Return the device that was saved."""
        return cls(saved["phone"], saved["number"], saved["lid_user"], bytes.fromhex(saved["identity"]),
                   bytes.fromhex(saved["account_identity"]), bytes.fromhex(saved.get("noise", "")))  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return its counters, for the control API."""
        return {
            "jid": str(self.jid), "logins": self.logins, "login_times": self.login_times,
            "accepted_logins": self.accepted_logins, "live_sockets": self.live_sockets,
            "max_live_sockets": self.max_live_sockets, "replaced": self.replaced,
            "messages": [message.id for message in self.messages], "delivered": dict(self.delivered),
            "confirmed": dict(self.confirmed),
        }  # fmt: skip
