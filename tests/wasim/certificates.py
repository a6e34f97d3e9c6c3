"""What the client checks the server by: a TLS certificate, and the Noise certificate chain under the root key."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import trustme

from . import media, protobuf
from .keys import KeyPair

HOST = "web.whatsapp.com"
_DAY = 86400


@dataclass(frozen=True)
class Tls:
    """A throw-away authority and a certificate for WhatsApp's hosts."""

    authority: Path
    context: ssl.SSLContext

    @classmethod
    def load(cls, folder: Path) -> Tls:
        """Return those of the folder, made at the first call."""
        authority, key, chain = folder / "authority.pem", folder / "tls-key.pem", folder / "tls-hosts.pem"
        if not chain.exists():
            ca = trustme.CA()
            leaf = ca.issue_cert(HOST, media.HOST)
            ca.cert_pem.write_to_path(authority)
            leaf.private_key_pem.write_to_path(key)
            chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # No session tickets: a client that reads and writes on two threads (websockets.sync; OpenSSL has no lock for
        # that) could lose its first request while they arrive.
        context.num_tickets = 0
        context.load_cert_chain(chain, key)
        return cls(authority, context)


def noise_chain(root: KeyPair, server: KeyPair) -> bytes:
    """Return the chain in which the root signs an intermediate that signs the server's static key."""
    intermediate = KeyPair.generate()
    middle = _details(serial=1, issuer=0, key=intermediate.public)
    leaf = _details(serial=2, issuer=1, key=server.public)
    return protobuf.encode([
        (1, protobuf.encode([(1, leaf), (2, intermediate.sign(leaf))])),
        (2, protobuf.encode([(1, middle), (2, root.sign(middle))])),
    ])  # fmt: skip


def _details(serial: int, issuer: int, key: bytes) -> bytes:
    now = int(time.time())
    return protobuf.encode([(1, serial), (2, issuer), (3, key), (4, now - _DAY), (5, now + 365 * _DAY)])
