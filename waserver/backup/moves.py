"""Several renames as one: all of them, or none. A journal in VAR_DIR survives a crash in the middle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from django.conf import settings


class Moves:
    """Renames to be made. What is in the way of one has to be moved away by an earlier one."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Path, Path]] = []

    def add(self, source: Path, target: Path) -> None:
        """Plan a rename; both are on one file system."""
        self._pairs.append((source, target))

    def make(self) -> None:
        """Make them in order. Raises OSError; then all that were made are taken back."""
        for _source, target in self._pairs:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _journal().write_text(json.dumps([[str(a), str(b)] for a, b in self._pairs]))
        try:
            for source, target in self._pairs:
                source.rename(target)
        except OSError:
            self.take_back()
            raise

    def take_back(self) -> None:
        """Undo those that were made, last first."""
        for source, target in reversed(self._pairs):
            if target.exists() and not source.exists():
                source.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                target.rename(source)
        self.done()

    def done(self) -> None:
        """Forget the journal: what was moved stays."""
        _journal().unlink(missing_ok=True)


def take_back_unfinished() -> bool:
    """Undo what a restore that was killed had begun; return whether there was one."""
    try:
        pairs = json.loads(_journal().read_text())
    except FileNotFoundError:
        return False
    except ValueError:  # killed while it wrote the journal, so before the first rename
        pairs = []
    moves = Moves()
    for source, target in pairs:
        moves.add(Path(source), Path(target))
    moves.take_back()
    return True


def near(file: Path, target: Path) -> Path:
    """Return the file, or a copy of it beside `target` when that is on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if file.stat().st_dev == target.parent.stat().st_dev:
        return file
    copy = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(file, copy)
    copy.chmod(0o600)
    return copy


def _journal() -> Path:
    path: Path = settings.VAR_DIR / "restore.journal"
    return path
