"""What a file is by its first bytes: pure. A name or a declared type is a claim, the bytes are evidence."""

from __future__ import annotations

from messaging.kinds import TYPES, Kind

#: Bytes needed.
ENOUGH = 32

#: (offset, bytes, MIME type); the first that fits counts.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"), (0, b"\xff\xf3", "audio/mpeg"), (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"), (0, b"\xff\xf9", "audio/aac"),
    (0, b"#!AMR", "audio/amr"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp3g", "video/3gpp"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
)  # fmt: skip


def sniff(head: bytes) -> str:
    """Return the MIME type of a file that begins with `head`, or "" when it has no known signature."""
    for offset, signature, mime in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return mime
    return ""


def fitting_type(kind: Kind, head: bytes, declared: str) -> str:
    """Return the MIME type a message of this kind may give the file, or "" when it may not carry it.

    A document may be anything and keeps its declared type; the others must be, by their bytes, what they say.
    """
    found = sniff(head)
    if kind is Kind.DOCUMENT:
        return found or declared.split(";")[0].strip() or "application/octet-stream"
    if kind is Kind.AUDIO and found == "video/mp4":
        found = "audio/mp4"  # the container is the same; the sender says it is sound
    if not found.startswith(TYPES[kind]):
        return ""
    return "audio/ogg; codecs=opus" if kind is Kind.VOICE else found
