"""Where archives are kept: a folder, or whatever fsspec reaches by a URL (s3://bucket/folder, sftp://…)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import fsspec
from django.conf import settings
from django.utils.translation import gettext as _
from fsspec.implementations.local import LocalFileSystem

from waserver.backup.errors import BackupError

SUFFIX = ".tar.gz.age"
_NAME = re.compile(rf"waserver-(\d{{8}}T\d{{6}})Z(-\w+)?{re.escape(SUFFIX)}")
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Kept:
    """One archive at the target."""

    name: str
    created_at: datetime
    size: int


class Target:
    """The place BACKUP_URL names; a folder is made when it is missing. Every method raises BackupError."""

    def __init__(self, url: str = "") -> None:
        self.url = url or settings.BACKUP_URL
        with _told(self.url):
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
            self._local = isinstance(self._fs, LocalFileSystem)
            if self._local:
                Path(self._root).mkdir(parents=True, exist_ok=True, mode=0o700)

    def list(self) -> list[Kept]:
        """Return the archives there, newest first; other files are none of ours."""
        with _told(self.url):
            self._fs.invalidate_cache()
            try:
                entries: list[dict[str, Any]] = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        found = []
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if match := _NAME.fullmatch(name):
                at = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
                found.append(Kept(name, at, int(entry["size"] or 0)))
        return sorted(found, key=lambda one: one.name, reverse=True)

    def put(self, file: Path, name: str) -> None:
        """Store a file under a name, whole or not at all."""
        with _told(self.url):
            if not self._local:
                self._fs.put_file(str(file), self._path(name))
                return
            partial = Path(self._path(f".{name}.partial"))
            try:
                shutil.copyfile(file, partial)
                partial.chmod(0o600)
                with partial.open("rb") as handle:
                    os.fsync(handle.fileno())
                partial.replace(self._path(name))
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open an archive: the name of one there, or the path of a file anywhere."""
        path = Path(name)
        try:
            with _told(name if path.is_file() else self.url, but=FileNotFoundError):
                handle: IO[bytes] = path.open("rb") if path.is_file() else self._fs.open(self._path(name), "rb")
        except FileNotFoundError:
            text = _("There is no archive %(name)s: `manage.py backup list` shows all.")
            raise BackupError(text % {"name": name}) from None
        with handle:
            yield handle

    def newest(self) -> str:
        """Return the name of the newest archive."""
        archives = self.list()
        if not archives:
            text = _("There is no backup at %(url)s: `manage.py backup create` makes one.")
            raise BackupError(text % {"url": self.url})
        return archives[0].name

    def prune(self, keep: int) -> int:
        """Delete all but the newest `keep`; return how many went."""
        old = self.list()[max(1, keep) :]
        with _told(self.url):
            for one in old:
                self._fs.rm_file(self._path(one.name))
        return len(old)

    def _path(self, name: str) -> str:
        return f"{str(self._root).rstrip('/')}/{name}"


def archive_name(now: datetime, reason: str = "") -> str:
    """Return the name of an archive made now."""
    word = re.sub(r"\W+", "_", reason)
    return f"waserver-{now.astimezone(UTC):{_STAMP}}Z{f'-{word}' if word else ''}{SUFFIX}"


@contextlib.contextmanager
def _told(where: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Turn what file systems raise into one sentence."""
    try:
        yield
    except but:
        raise
    except (ImportError, ValueError) as error:
        text = _("BACKUP_URL=%(where)s cannot be used: %(error)s")
        raise BackupError(text % {"where": where, "error": error}) from None
    except OSError as error:
        text = _("%(where)s cannot be used: %(error)s.")
        raise BackupError(text % {"where": where, "error": error.strerror or error}) from None
