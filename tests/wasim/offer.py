"""A pairing under way: the references an unpaired client shows as QR codes, and the phone's side of a scan."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import protobuf
from .account import Account
from .binary_xml import Node, node
from .device import Device
from .faults import stream_error
from .jid import SERVER

if TYPE_CHECKING:
    from .connection import Connection

REFERENCES = 6
"""How many codes a client gets; it shows the first for 60 s and the others for 20 s each."""

WRONG = {"", "hmac", "signature"}


class ScanError(Exception):
    """The phone could not be linked; the text says why."""


@dataclass(frozen=True)
class QrCode:
    """What a QR code says."""

    reference: str
    noise: bytes
    identity: bytes
    secret: bytes

    @classmethod
    def parse(cls, text: str) -> QrCode:
        """Return what the text of a code says. Raises ScanError when it is none."""
        parts = text.strip().rpartition("#")[2].split(",")
        if len(parts) < 4:
            raise ScanError("this is no code for linking a device")
        try:
            return cls(parts[0], *(base64.b64decode(part, validate=True) for part in parts[1:4]))
        except ValueError:
            raise ScanError("this code is damaged") from None


class Offer:
    """The references of one connection, and what becomes of them."""

    def __init__(self, connection: Connection, noise: bytes) -> None:
        self._connection = connection
        self.noise = noise
        self.references = [f"2@{base64.b64encode(os.urandom(48)).decode()}" for _ in range(REFERENCES)]
        self.since = time.time()

    def stanza(self) -> Node:
        """Return the stanza that hands the references out."""
        references = [node("ref", None, data=reference.encode()) for reference in self.references]
        return node("iq", {"from": SERVER, "type": "set", "id": f"offer-{id(self)}", "xmlns": "md"},
                    node("pair-device", None, *references))  # fmt: skip

    async def pair(self, account: Account, identity: bytes, secret: bytes, wrong: str = "") -> Device | None:
        """Link the client to an account; return the new device, or None when the client refused.

        `wrong` spoils the "hmac" or the "signature". Raises Gone when the client goes away meanwhile.
        """
        if wrong not in WRONG:
            raise ValueError(f"a scan cannot be wrong by {wrong!r}")
        index, now = account.next_index(), int(time.time())
        signed = account.accept(identity if wrong != "signature" else os.urandom(32), index, now)
        key = secret if wrong != "hmac" else os.urandom(32)
        sealed = protobuf.encode([(1, signed), (2, hmac.digest(key, signed, hashlib.sha256))])
        jid, lid = account.jid._replace(device=index), account.lid._replace(device=index)
        success = node("pair-success", None, node("device-identity", None, data=sealed),
                       node("device", {"jid": jid, "lid": lid}), node("platform", {"name": "android"}))  # fmt: skip
        answer = await self._connection.ask(node("iq", {"from": SERVER, "type": "set", "t": now}, success))
        if answer["type"] != "result":
            return None
        proof = answer.bytes_of("pair-device-sign", "device-identity")
        device = Device(jid, lid, identity, self.noise, index, proof)
        self._connection.network.save(device)
        self._connection.end(stream_error(515))
        return device
