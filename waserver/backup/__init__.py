"""Backup and restore: one encrypted archive of the database, every device store and the secret key."""

from waserver.backup.errors import BackupError, Damaged, WrongKey
from waserver.backup.making import Made, create
from waserver.backup.restoring import Restored, restore

__all__ = ["BackupError", "Damaged", "Made", "Restored", "WrongKey", "create", "restore"]
