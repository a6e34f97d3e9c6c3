"""The archive: a tar.gz whose first member is the manifest, encrypted by age (pyrage).

age was chosen over Fernet because it streams (Fernet needs the whole in memory), authenticates every 64 KiB chunk and
the end, so that a flipped byte or a cut is always seen, and because its own command-line tool opens the file too.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import pyrage
from django.utils.translation import gettext as _

from waserver.backup.errors import BackupError, Damaged, WrongKey

#: Of the archive's layout. An archive with a higher one is refused.
FORMAT = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 16
#: A manifest longer than this is none.
_MANIFEST_LIMIT = 64 << 20
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Member:
    """One file inside."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds and where it comes from."""

    kind: str  # "backup", or "account" for an export
    created_at: str  # ISO 8601
    machine: str
    reason: str
    engine: str  # of the database: "sqlite" or "mysql"
    migrations: list[str]
    counts: dict[str, int]
    stores: dict[str, str] = field(default_factory=dict)  # device store as the session names it -> member
    damaged: list[str] = field(default_factory=list)  # members copied as they are, because they cannot be read
    missing: list[str] = field(default_factory=list)  # device stores sessions name that were not there
    members: list[Member] = field(default_factory=list)
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Return the bytes of all members."""
        return sum(member.size for member in self.members)


def member(name: str, file: Path) -> Member:
    """Return a file's entry for the manifest."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return Member(name, file.stat().st_size, digest.hexdigest())


def write(out: IO[bytes], manifest: Manifest, folder: Path, identity: pyrage.x25519.Identity) -> None:
    """Write the manifest and its members, found in `folder` under their names. Raises OSError."""
    reading, writing = os.pipe()
    failure: list[BaseException] = []

    def pack() -> None:
        try:
            with (
                io.BufferedWriter(_Pipe(writing)) as pipe,
                gzip.GzipFile("", "wb", compresslevel=3, fileobj=pipe) as packed,
                tarfile.open(fileobj=packed, mode="w|") as tar,
            ):
                _add(tar, MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
                for one in manifest.members:
                    tar.add(folder / one.name, one.name, recursive=False)
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            failure.append(error)

    packer = threading.Thread(target=pack, name="backup-pack", daemon=True)
    packer.start()
    try:
        with os.fdopen(reading, "rb") as pipe:
            pyrage.encrypt_io(pipe, out, [identity.to_public()])
    finally:
        packer.join()
    if failure:  # then what was encrypted is only a part
        raise failure[0]


class _Pipe(io.RawIOBase):
    """The writing end of a pipe. When nobody reads any more, what is written is dropped: the reader knows why."""

    def __init__(self, end: int) -> None:
        self._end, self._broken = end, False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self._broken:
            try:
                return os.write(self._end, data)
            except BrokenPipeError:
                self._broken = True
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._end)
        super().close()


def read(source: IO[bytes], identity: pyrage.x25519.Identity, keep: Path | None = None,
         accept: Callable[[Manifest], None] = lambda manifest: None) -> Manifest:  # fmt: skip
    """Read an archive to its end, checking every member; with `keep` leave them in that folder. Return the manifest.

    `accept` sees the manifest first and may raise. Raises WrongKey, Damaged, BackupError for an archive of a newer
    version, and OSError when a member cannot be kept.
    """
    return _read(source, identity, lambda tar: _unpack(tar, keep, accept))


def manifest_of(source: IO[bytes], identity: pyrage.x25519.Identity) -> Manifest:
    """Return the manifest alone, reading no further. Raises as `read`."""
    return _read(source, identity, _begin, to_the_end=False)


def _read(source: IO[bytes], identity: pyrage.x25519.Identity, work: Callable[[tarfile.TarFile], Manifest],
          to_the_end: bool = True) -> Manifest:  # fmt: skip
    """Decrypt on a thread of its own, since the decryption pushes and the unpacking pulls."""
    reading, writing = os.pipe()
    failure: list[Exception] = []

    def decrypt() -> None:
        try:
            with os.fdopen(writing, "wb") as pipe:
                pyrage.decrypt_io(source, pipe, [identity])
        except Exception as error:  # noqa: BLE001 - told on the reader's thread
            failure.append(error)

    decryptor = threading.Thread(target=decrypt, name="backup-decrypt", daemon=True)
    decryptor.start()
    try:
        with os.fdopen(reading, "rb") as pipe:
            try:
                with tarfile.open(fileobj=pipe, mode="r|gz") as tar:
                    manifest = work(tar)
                while to_the_end and pipe.read(_CHUNK):  # the last chunk proves that nothing was cut off
                    pass
            finally:
                pipe.close()
                decryptor.join()
    except (tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, TypeError) as error:
        raise _reason(failure[0] if failure else error) from None
    if failure and to_the_end:
        raise _reason(failure[0])
    return manifest


def _begin(tar: tarfile.TarFile) -> Manifest:
    info = tar.next()
    content = tar.extractfile(info) if info is not None and info.name == MANIFEST else None
    if content is None or info is None or info.size > _MANIFEST_LIMIT:
        raise ValueError(_("no manifest"))
    values = json.loads(content.read())
    if values["format"] > FORMAT:
        text = _("The archive was made by a newer waserver (its format is %(format)s, this one reads up to %(most)d): "
                 "install that version first.")  # fmt: skip
        raise BackupError(text % {"format": values["format"], "most": FORMAT})
    members = [Member(**one) for one in values.pop("members")]
    for one in members:
        if not _NAME.fullmatch(one.name) or ".." in one.name:
            raise ValueError(_("a member named %(name)s") % {"name": repr(one.name)})
    return Manifest(**values, members=members)


def _unpack(tar: tarfile.TarFile, keep: Path | None, accept: Callable[[Manifest], None]) -> Manifest:
    manifest = _begin(tar)
    accept(manifest)
    for expected in manifest.members:
        info = tar.next()
        content = tar.extractfile(info) if info is not None and info.name == expected.name else None
        if content is None:
            raise Damaged(_("The archive is damaged: %(name)s is missing.") % {"name": expected.name})
        digest, size = hashlib.sha256(), 0
        with _kept(keep, expected.name) as out:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
        if (size, digest.hexdigest()) != (expected.size, expected.sha256):
            text = _("The archive is damaged: %(name)s is not what was written.")
            raise Damaged(text % {"name": expected.name})
    return manifest


@contextlib.contextmanager
def _kept(keep: Path | None, name: str) -> Iterator[IO[bytes]]:
    path = Path(os.devnull) if keep is None else keep / name
    if keep is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(0o600)
    with path.open("wb") as out:
        yield out


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, io.BytesIO(content))


def _reason(error: Exception) -> BackupError:
    if isinstance(error, BackupError):
        return error
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in str(error):
        return WrongKey(_("The key does not open this archive: it was made with another one (or its first lines are "
                          "damaged). Set BACKUP_KEY or BACKUP_KEY_FILE to the key it was made with."))  # fmt: skip
    words = str(error).strip().splitlines() or [_("unreadable")]
    return Damaged(_("The archive is damaged or cut short (%(error)s).") % {"error": words[0].rstrip(".")})
