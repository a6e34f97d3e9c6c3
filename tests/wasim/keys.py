"""Curve25519 key pairs, as the protocol uses them: for key agreement and, by XEdDSA, to sign."""

from __future__ import annotations

import os
from dataclasses import dataclass

import xeddsa


@dataclass(frozen=True)
class KeyPair:
    """A private and a public key of 32 bytes each."""

    private: bytes
    public: bytes

    @classmethod
    def generate(cls) -> KeyPair:
        """Return a new random key pair."""
        return cls.from_private(os.urandom(32))

    @classmethod
    def from_private(cls, private: bytes) -> KeyPair:
        """Return the key pair of a private key, which is clamped first."""
        clamped = bytearray(private)
        clamped[0] &= 248
        clamped[31] = clamped[31] & 127 | 64
        return cls(bytes(clamped), xeddsa.priv_to_curve25519_pub(bytes(clamped)))

    def agree(self, public: bytes) -> bytes:
        """Return the 32 bytes shared with the owner of the other key.

        Raises ValueError when the other key is not a usable public key.
        """
        try:
            return xeddsa.x25519(self.private, public)
        except xeddsa.XEdDSAException as error:
            raise ValueError("not a usable public key") from error

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return xeddsa.ed25519_priv_sign(xeddsa.priv_force_sign(self.private, False), message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the owner of this Curve25519 public key signed the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    ed25519 = xeddsa.curve25519_pub_to_ed25519_pub(public, bool(signature[63] & 0x80))
    unsigned = signature[:63] + bytes([signature[63] & 0x7F])
    return xeddsa.ed25519_verify(unsigned, ed25519, message)
