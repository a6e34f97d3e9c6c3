"""The person's phone: scans a QR code or takes an 8-character code, and signs the new device."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import protobuf
from .keys import KeyPair

_ACCOUNT_SIGNATURE = b"\x06\x00"
_ROUNDS = 2 << 16
_HIDING = 7_000_000_000


@dataclass(frozen=True)
class Scan:
    """What a QR code tells the phone."""

    ref: str
    identity: bytes
    secret: bytes

    @classmethod
    def parse(cls, text: str) -> Scan:
        """Read a QR text. Raises ValueError when it is not one of WhatsApp's."""
        head, sign, tail = text.strip().partition("#")
        parts = (tail if sign else head).split(",")
        if len(parts) < 4:
            raise ValueError("this is not a WhatsApp pairing code")
        return cls(parts[0], base64.b64decode(parts[2]), base64.b64decode(parts[3]))


@dataclass
class Phone:
    """One number with its own identity. `devices` counts those ever linked."""

    number: str
    identity: KeyPair = field(default_factory=KeyPair.generate)
    signed_prekey: KeyPair = field(default_factory=KeyPair.generate)
    devices: int = 0
    picture: str = ""

    @property
    def lid_user(self) -> str:
        """The user part of its hidden address."""
        return str(int(self.number) + _HIDING)

    def sign_device(self, scan: Scan, wrong: str = "") -> bytes:
        """Return the ADVSignedDeviceIdentityHMAC for the client that showed this code.

        `wrong` may be "hmac" or "signature", to answer as a broken phone would.
        """
        details = protobuf.encode([(1, 1), (2, int(time.time())), (3, self.devices), (4, 0), (5, 0)])
        signature = self.identity.sign(_ACCOUNT_SIGNATURE + details + scan.identity)
        if wrong == "signature":
            signature = bytes(64)
        signed = protobuf.encode([(1, details), (2, self.identity.public), (3, signature)])
        mac = hmac.digest(os.urandom(32) if wrong == "hmac" else scan.secret, signed, hashlib.sha256)
        return protobuf.encode([(1, signed), (2, mac)])

    def saved(self) -> dict[str, Any]:
        """Return what has to outlive the simulator."""
        return {"number": self.number, "identity": self.identity.private.hex(), "devices": self.devices}

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Phone:
        """Return the phone that was saved."""
        identity = KeyPair.from_private(bytes.fromhex(saved["identity"]))
        return cls(saved["number"], identity, devices=saved["devices"])


def shown(lid_user: str) -> str:
    """Return the number that a hidden address belongs to."""
    return str(int(lid_user) - _HIDING)


class CodeEntry:
    """Pairing by an 8-character code, seen from the phone: unwraps the client's key and wraps its own."""

    def __init__(self, phone: Phone, code: str, wrapped_companion: bytes) -> None:
        self._phone = phone
        self._ephemeral = KeyPair.generate()
        self._code = code.replace("-", "").strip().upper().encode()
        companion = self._crypt(wrapped_companion[:32], wrapped_companion[32:48], wrapped_companion[48:80])
        self._shared = self._ephemeral.agree(companion)

    def hello(self) -> bytes:
        """Return our wrapped key for the client."""
        salt, iv = os.urandom(32), os.urandom(16)
        return salt + iv + self._crypt(salt, iv, self._ephemeral.public)

    def finish(self, ref: str, bundle: bytes) -> Scan:
        """Return what a QR code would have told. Raises InvalidTag when the code was wrong."""
        salt, nonce, sealed = bundle[:32], bundle[32:44], bundle[44:]
        key = _expand(self._shared, salt, b"link_code_pairing_key_bundle_encryption_key")
        plain = AESGCM(key).decrypt(nonce, sealed, None)
        companion, random = plain[:32], plain[64:96]
        secret = _expand(self._shared + self._phone.identity.agree(companion) + random, None, b"adv_secret")
        return Scan(ref, companion, secret)

    def _crypt(self, salt: bytes, iv: bytes, data: bytes) -> bytes:
        key = hashlib.pbkdf2_hmac("sha256", self._code, salt, _ROUNDS, 32)
        cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
        return cipher.update(data) + cipher.finalize()


def _expand(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)
