"""What can go wrong with a backup, as one sentence for a person."""

from __future__ import annotations


class BackupError(Exception):
    """A backup or restore was refused or failed; the text says what to do. Nothing that was there has been changed."""


class Damaged(BackupError):
    """The archive is not what was written."""


class WrongKey(BackupError):
    """The key does not open the archive."""
