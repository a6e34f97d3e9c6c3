"""The binary form of the XML stanzas that client and server exchange."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .jid import HIDDEN_USERS, USERS, Jid
from .tokens import DOUBLE, SINGLE

log = logging.getLogger(__name__)

Value = str | Jid

EMPTY, LIST8, LIST16 = 0, 248, 249
DICTIONARIES = range(236, 240)
DEVICE_JID, JID_PAIR, HEX, NIBBLES = 247, 250, 251, 255
BYTES8, BYTES20, BYTES32 = 252, 253, 254
COMPRESSED = 2
DOMAINS = {0: USERS, 1: HIDDEN_USERS}
NIBBLE_ALPHABET = "0123456789-."
HEX_ALPHABET = "0123456789ABCDEF"


class BinaryXmlError(ValueError):
    """A stanza that does not follow the binary format."""


@dataclass
class Node:
    """One element: a tag, attributes, and children or data (never both)."""

    tag: str
    attributes: dict[str, Value] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    data: bytes | None = None

    def __getitem__(self, name: str) -> str:
        """Return an attribute as text, empty when it is absent."""
        return str(self.attributes.get(name, ""))

    def jid(self, name: str) -> Jid | None:
        """Return an attribute as an address, None when it is absent or none."""
        value = self.attributes.get(name)
        if isinstance(value, str) and "@" in value:
            return Jid.parse(value)
        return value if isinstance(value, Jid) else None

    def find(self, *path: str) -> Node | None:
        """Return the first descendant along a path of tags, None when there is none."""
        found: Node = self
        for tag in path:
            below = next((child for child in found.children if child.tag == tag), None)
            if below is None:
                return None
            found = below
        return found

    def every(self, tag: str) -> Iterator[Node]:
        """Return the children with that tag."""
        return (child for child in self.children if child.tag == tag)

    def bytes_of(self, *path: str) -> bytes:
        """Return the data of a descendant, empty when there is none."""
        node = self.find(*path)
        return (node.data or b"") if node else b""

    def __str__(self) -> str:
        attributes = "".join(f' {name}="{value}"' for name, value in self.attributes.items())
        inner = "".join(map(str, self.children))
        if self.data is not None:
            inner = f"<!-- {len(self.data)} bytes -->"
        return f"<{self.tag}{attributes}>{inner}</{self.tag}>"


def node(
    tag: str,
    attributes: Mapping[str, Value | int | None] | None = None,
    *children: Node,
    data: bytes | None = None,
) -> Node:
    """Return a new element; attributes that are None are left out, numbers become text."""
    kept = {
        name.rstrip("_"): str(value) if isinstance(value, int) else value
        for name, value in (attributes or {}).items()
        if value is not None
    }
    return Node(tag, kept, list(children), data)


def encode(stanza: Node) -> bytes:
    """Return the uncompressed frame of a stanza. Every word is written out, none by dictionary."""
    out = bytearray([0])
    _write_node(out, stanza)
    return bytes(out)


def decode(frame: bytes) -> Node:
    """Return the stanza in a frame. Raises BinaryXmlError when it is broken."""
    if not frame:
        raise BinaryXmlError("an empty frame")
    try:
        body = zlib.decompress(frame[1:]) if frame[0] & COMPRESSED else frame[1:]
        return _Reader(body).node()
    except (IndexError, zlib.error) as error:
        raise BinaryXmlError("a stanza is cut short") from error


def _write_node(out: bytearray, stanza: Node) -> None:
    has_content = bool(stanza.children) or stanza.data is not None
    _write_list(out, 1 + 2 * len(stanza.attributes) + has_content)
    _write_bytes(out, stanza.tag.encode())
    for name, value in stanza.attributes.items():
        _write_bytes(out, name.encode())
        _write_value(out, value)
    if stanza.children:
        _write_list(out, len(stanza.children))
        for child in stanza.children:
            _write_node(out, child)
    elif stanza.data is not None:
        _write_bytes(out, stanza.data)


def _write_list(out: bytearray, size: int) -> None:
    if size == 0:
        out.append(EMPTY)
    elif size < 256:
        out += bytes([LIST8, size])
    else:
        out.append(LIST16)
        out += size.to_bytes(2, "big")


def _write_value(out: bytearray, value: Value) -> None:
    if isinstance(value, str):
        _write_bytes(out, value.encode())
    elif value.device:
        domain = next(byte for byte, server in DOMAINS.items() if server == value.server)
        out += bytes([DEVICE_JID, domain, value.device])
        _write_bytes(out, value.user.encode())
    else:
        out.append(JID_PAIR)
        if value.user:
            _write_bytes(out, value.user.encode())
        else:
            out.append(EMPTY)
        _write_bytes(out, value.server.encode())


def _write_bytes(out: bytearray, data: bytes) -> None:
    if len(data) < 256:
        out += bytes([BYTES8, len(data)])
    elif len(data) < 1 << 20:
        out.append(BYTES20)
        out += len(data).to_bytes(3, "big")
    else:
        out.append(BYTES32)
        out += len(data).to_bytes(4, "big")
    out += data


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def _byte(self) -> int:
        self._at += 1
        return self._body[self._at - 1]

    def _take(self, length: int) -> bytes:
        if self._at + length > len(self._body):
            raise BinaryXmlError("a stanza is cut short")
        self._at += length
        return self._body[self._at - length : self._at]

    def _number(self, length: int) -> int:
        return int.from_bytes(self._take(length), "big")

    def _list_size(self, token: int) -> int:
        if token == EMPTY:
            return 0
        if token == LIST8:
            return self._byte()
        if token == LIST16:
            return self._number(2)
        raise BinaryXmlError(f"byte {token} does not begin a list")

    def node(self) -> Node:
        size = self._list_size(self._byte())
        if size == 0:
            raise BinaryXmlError("an element without a tag")
        result = Node(str(self._value(self._byte())))
        for _ in range((size - 1) // 2):
            name = str(self._value(self._byte()))
            result.attributes[name] = self._value(self._byte())
        if size % 2 == 0:
            self._content(result)
        return result

    def _content(self, parent: Node) -> None:
        token = self._byte()
        if token in (EMPTY, LIST8, LIST16):
            parent.children = [self.node() for _ in range(self._list_size(token))]
        elif token in (BYTES8, BYTES20, BYTES32):
            parent.data = self._raw(token)
        else:
            parent.data = str(self._value(token)).encode()

    def _raw(self, token: int) -> bytes:
        if token == BYTES8:
            return self._take(self._byte())
        if token == BYTES20:
            return self._take(self._number(3) & 0xFFFFF)
        return self._take(self._number(4))

    def _value(self, token: int) -> Value:
        if token == EMPTY:
            return ""
        if token in (BYTES8, BYTES20, BYTES32):
            return self._raw(token).decode(errors="replace")
        if token == JID_PAIR:
            user = str(self._value(self._byte()))
            return Jid(user, str(self._value(self._byte())))
        if token == DEVICE_JID:
            domain, device = self._byte(), self._byte()
            server = DOMAINS.get(domain, f"domain-{domain}")
            return Jid(str(self._value(self._byte())), server, device)
        if token in (NIBBLES, HEX):
            return self._packed(NIBBLE_ALPHABET if token == NIBBLES else HEX_ALPHABET)
        if token in DICTIONARIES:
            return self._word(token - DICTIONARIES.start, self._byte())
        if token in (LIST8, LIST16) or token >= 240:
            raise BinaryXmlError(f"byte {token} does not begin a value")
        return self._word(None, token)

    def _packed(self, alphabet: str) -> str:
        head = self._byte()
        digits = [half for byte in self._take(head & 0x7F) for half in (byte >> 4, byte & 15)]
        if head & 0x80:
            digits.pop()
        try:
            return "".join(alphabet[digit] for digit in digits)
        except IndexError as error:
            raise BinaryXmlError("a packed number with an impossible digit") from error

    @staticmethod
    def _word(dictionary: int | None, index: int) -> str:
        """Return a word by number, or a visible placeholder for one never seen in these flows."""
        known = SINGLE if dictionary is None else DOUBLE.get(dictionary, {})
        word = known.get(index)
        if word is None:
            word = f"word-{index}" if dictionary is None else f"word-{dictionary}-{index}"
            log.debug("unknown word %s", word)
        return word
