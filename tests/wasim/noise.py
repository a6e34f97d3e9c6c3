"""The Noise_XX_25519_AESGCM_SHA256 handshake and the frames that follow it, for both sides."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import protobuf
from .keys import KeyPair

HEADER = b"WA\x06\x03"
"""The first bytes a client sends: name, protocol version, dictionary version."""

PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"

CLIENT_HELLO, SERVER_HELLO, CLIENT_FINISH = 2, 3, 4
EPHEMERAL, STATIC, PAYLOAD = 1, 2, 3


class NoiseError(Exception):
    """The other side broke the handshake or sent a frame that cannot be decrypted."""


class Cipher:
    """One direction of an established connection: a key and its message counter."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def _next_nonce(self) -> bytes:
        nonce = bytes(8) + self._counter.to_bytes(4, "big")
        self._counter += 1
        return nonce

    def encrypt(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Return the encrypted message; each call uses up one counter value."""
        return self._cipher.encrypt(self._next_nonce(), plain, associated)

    def decrypt(self, sealed: bytes, associated: bytes = b"") -> bytes:
        """Return the plain message. Raises NoiseError when it was tampered with or out of order."""
        try:
            return self._cipher.decrypt(self._next_nonce(), sealed, associated)
        except InvalidTag as error:
            raise NoiseError("a frame cannot be decrypted") from error


class Handshake:
    """The running hash and keys both sides keep in step while they shake hands."""

    def __init__(self) -> None:
        self._hash = self._salt = PATTERN
        self._cipher = Cipher(PATTERN)
        self.mix_hash(HEADER)

    def mix_hash(self, data: bytes) -> None:
        """Add what both sides have seen to the running hash."""
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix_secret(self, secret: bytes) -> None:
        """Derive the next salt and key from an agreed secret; the counter starts again."""
        self._salt, key = _derive(secret, self._salt)
        self._cipher = Cipher(key)

    def encrypt(self, plain: bytes) -> bytes:
        """Return the data encrypted under the current key, and remember it in the hash."""
        sealed = self._cipher.encrypt(plain, self._hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        """Return the plain data. Raises NoiseError when it was tampered with."""
        plain = self._cipher.decrypt(sealed, self._hash)
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers for (client to server, server to client)."""
        upward, downward = _derive(b"", self._salt)
        return Cipher(upward), Cipher(downward)


class ServerHandshake:
    """The server's side: answer the hello, read the finish, then `split`."""

    def __init__(self, static: KeyPair, certificate: bytes) -> None:
        self._static = static
        self._certificate = certificate
        self._ephemeral = KeyPair.generate()
        self._state = Handshake()

    def answer(self, hello: bytes) -> bytes:
        """Return the server hello to a client hello. Raises NoiseError when it makes no sense."""
        client_ephemeral = _part(hello, CLIENT_HELLO, EPHEMERAL)
        state = self._state
        state.mix_hash(client_ephemeral)
        state.mix_hash(self._ephemeral.public)
        state.mix_secret(_agree(self._ephemeral, client_ephemeral))
        static = state.encrypt(self._static.public)
        state.mix_secret(_agree(self._static, client_ephemeral))
        certificate = state.encrypt(self._certificate)
        parts = [(EPHEMERAL, self._ephemeral.public), (STATIC, static), (PAYLOAD, certificate)]
        return protobuf.encode([(SERVER_HELLO, protobuf.encode(parts))])

    def finish(self, message: bytes) -> tuple[bytes, bytes]:
        """Return the client's (static public key, payload). Raises NoiseError when broken."""
        static = self._state.decrypt(_part(message, CLIENT_FINISH, STATIC))
        self._state.mix_secret(_agree(self._ephemeral, static))
        return static, self._state.decrypt(_part(message, CLIENT_FINISH, PAYLOAD))

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers for (reading, writing)."""
        return self._state.split()


class ClientHandshake:
    """The client's side, for tests of the server that need no real client."""

    def __init__(self, static: KeyPair) -> None:
        self._static = static
        self._ephemeral = KeyPair.generate()
        self._state = Handshake()

    def hello(self) -> bytes:
        """Return the client hello, to be sent after `HEADER`."""
        self._state.mix_hash(self._ephemeral.public)
        return protobuf.encode(
            [(CLIENT_HELLO, protobuf.encode([(EPHEMERAL, self._ephemeral.public)]))]
        )

    def finish(self, server_hello: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Return (client finish, certificate chain) for a server hello and our payload.

        Raises NoiseError when the server's answer cannot be decrypted.
        """
        state = self._state
        ephemeral = _part(server_hello, SERVER_HELLO, EPHEMERAL)
        state.mix_hash(ephemeral)
        state.mix_secret(_agree(self._ephemeral, ephemeral))
        static = state.decrypt(_part(server_hello, SERVER_HELLO, STATIC))
        state.mix_secret(_agree(self._ephemeral, static))
        certificate = state.decrypt(_part(server_hello, SERVER_HELLO, PAYLOAD))
        sealed = state.encrypt(self._static.public)
        state.mix_secret(_agree(self._static, ephemeral))
        parts = [(1, sealed), (2, state.encrypt(payload))]
        return protobuf.encode([(CLIENT_FINISH, protobuf.encode(parts))]), certificate

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers for (reading, writing)."""
        upward, downward = self._state.split()
        return downward, upward


class FrameReader:
    """Cuts a byte stream into frames: a 3-byte length, then the data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that are complete now; the rest waits for more data."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= 3:
            end = 3 + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[3:end]))
            del self._buffer[:end]
        return frames


def frame(data: bytes) -> bytes:
    """Return the data with its length in front."""
    return len(data).to_bytes(3, "big") + data


def _part(message: bytes, kind: int, field: int) -> bytes:
    """Return one field of a handshake message; in the finish, the fields are numbered 1 and 2."""
    number = field - 1 if kind == CLIENT_FINISH else field
    try:
        part = protobuf.decode(message).message(kind)
    except ValueError as error:
        raise NoiseError("a handshake message is not protobuf") from error
    data = part.data(number) if part else b""
    if not data:
        raise NoiseError(f"a handshake message lacks part {kind}.{number}")
    return data


def _agree(own: KeyPair, other: bytes) -> bytes:
    try:
        return own.agree(other)
    except ValueError as error:
        raise NoiseError(str(error)) from error


def _derive(secret: bytes, salt: bytes) -> tuple[bytes, bytes]:
    both = HKDF(algorithm=SHA256(), length=64, salt=salt, info=b"").derive(secret)
    return both[:32], both[32:]
