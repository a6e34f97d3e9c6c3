"""Pairing by phone number: the client shows 8 characters, and whoever types them into the phone proves to know them.

Both sides wrap a throw-away public key with the code; from the two keys, the two identities and some randomness of the
client follows the secret that a QR code would have carried.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .account import Account
from .binary_xml import Node, node
from .device import Device
from .jid import SERVER
from .keys import KeyPair
from .offer import ScanError

if TYPE_CHECKING:
    from .connection import Connection

ROUNDS = 2 << 16
REGISTRATION = "link_code_companion_reg"
WRAPPED_COMPANION, WRAPPED_PRIMARY = (f"link_code_pairing_wrapped_{side}_ephemeral_pub" for side in
                                      ("companion", "primary"))  # fmt: skip
REFERENCE, BUNDLE = "link_code_pairing_ref", "link_code_pairing_wrapped_key_bundle"
FINISH_WAIT = 15.0
"""Seconds the client has for its last step."""


@dataclass
class LinkCode:
    """One such pairing under way."""

    connection: Connection
    wrapped: bytes
    reference: bytes = field(default_factory=lambda: b"3@" + os.urandom(24).hex().encode())
    finished: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The client's last word: the wrapped bundle of keys."""

    def hello(self) -> Node:
        """Return the answer to the client's first step."""
        return node(REGISTRATION, {"stage": "companion_hello"}, node(REFERENCE, None, data=self.reference))

    async def enter(self, account: Account, code: str) -> Device | None:
        """Type the code into the phone; return the new device, or None when the client refused.

        Raises ScanError for a wrong code or when the client does not go on, Gone when it goes away.
        """
        own = KeyPair.generate()
        # each takes some 50 ms: not on the loop
        theirs = await asyncio.to_thread(unwrap, code, self.wrapped)
        wrapped = await asyncio.to_thread(wrap, code, own.public)
        self.connection.send(node(
            "notification", {"from": SERVER, "type": REGISTRATION, "id": os.urandom(8).hex(), "t": 0},
            node(REGISTRATION, {"stage": "primary_hello"},
                 node(WRAPPED_PRIMARY, None, data=wrapped),
                 node("primary_identity_pub", None, data=account.identity.public),
                 node(REFERENCE, None, data=self.reference)),
        ))  # fmt: skip
        try:
            async with asyncio.timeout(FINISH_WAIT):
                bundle = await self.finished
        except TimeoutError:
            raise ScanError("the device did not go on with the pairing") from None
        shared = own.agree(theirs)
        identity, random = open_bundle(shared, bundle)
        secret = derive(shared + account.identity.agree(identity) + random, None, b"adv_secret")
        assert self.connection.offer is not None
        return await self.connection.offer.pair(account, identity, secret)


def normal(code: str) -> str:
    """Return the eight characters of a code, without its dash."""
    return code.replace("-", "").replace(" ", "").upper()


def wrap(code: str, public: bytes) -> bytes:
    """Return a public key wrapped with the code: salt, start value, encrypted key."""
    salt, start = os.urandom(32), os.urandom(16)
    return salt + start + _stretch(code, salt, start, public)


def unwrap(code: str, wrapped: bytes) -> bytes:
    """Return the public key inside; a wrong code gives a wrong key."""
    return _stretch(code, wrapped[:32], wrapped[32:48], wrapped[48:80])


def open_bundle(shared: bytes, bundle: bytes) -> tuple[bytes, bytes]:
    """Return the client's (identity key, randomness). Raises ScanError when the code was wrong."""
    key = derive(shared, bundle[:32], b"link_code_pairing_key_bundle_encryption_key")
    try:
        plain = AESGCM(key).decrypt(bundle[32:44], bundle[44:], None)
    except InvalidTag:
        raise ScanError("the code is wrong") from None
    return plain[:32], plain[64:96]


def derive(secret: bytes, salt: bytes | None, purpose: bytes) -> bytes:
    """Return 32 bytes for a purpose."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(secret)


def _stretch(code: str, salt: bytes, start: bytes, data: bytes) -> bytes:
    key = hashlib.pbkdf2_hmac("sha256", normal(code).encode(), salt, ROUNDS, 32)
    return Cipher(algorithms.AES(key), modes.CTR(start)).encryptor().update(data)
