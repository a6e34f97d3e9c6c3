"""Reading and writing the few protobuf messages of the protocol, field number by field number.

Only the two wire types these messages use: varint (0) and length-delimited (2). Written by hand so
that this package needs neither protobuf nor the client library it tests.
"""

from __future__ import annotations

from collections.abc import Iterable

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


class Fields:
    """The fields of one decoded message; the last value of a field counts."""

    def __init__(self, values: dict[int, int | bytes]) -> None:
        self._values = values

    def number(self, field: int) -> int | None:
        """Return the number in that field, None when it is absent or not a number."""
        value = self._values.get(field)
        return value if isinstance(value, int) else None

    def data(self, field: int) -> bytes:
        """Return the bytes in that field, empty when it is absent or not bytes."""
        value = self._values.get(field)
        return value if isinstance(value, bytes) else b""

    def message(self, field: int) -> Fields | None:
        """Return the message in that field, None when absent. Raises ValueError when broken."""
        value = self._values.get(field)
        return decode(value) if isinstance(value, bytes) else None


def decode(data: bytes) -> Fields:
    """Return the fields of a message. Raises ValueError when the bytes are no protobuf."""
    values: dict[int, int | bytes] = {}
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        field, wire = tag >> 3, tag & 7
        if wire == VARINT:
            values[field], position = _read_varint(data, position)
            continue
        if wire == DELIMITED:
            length, position = _read_varint(data, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"protobuf wire type {wire} is not supported")
        if position + length > len(data):
            raise ValueError("protobuf message is cut short")
        values[field] = data[position : position + length]
        position += length
    return Fields(values)


def encode(fields: Iterable[tuple[int, int | bytes | None]]) -> bytes:
    """Return the message made of (field number, value) pairs; a value of None is left out."""
    out = bytearray()
    for field, value in fields:
        if value is None:
            continue
        if isinstance(value, int):
            out += _varint(field << 3 | VARINT) + _varint(value)
        else:
            out += _varint(field << 3 | DELIMITED) + _varint(len(value)) + value
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("protobuf number is cut short or too long")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if not byte & 0x80:
            return value, position


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
