"""The key of the backups: an age identity, from BACKUP_KEY, else from the file BACKUP_KEY_FILE.

Without it an archive is worthless, and with it everything inside is open: it belongs in a safe place that is not this
machine. An archive is a plain tar.gz under age, so `age -d -i backup.key FILE | tar xz` opens it without waserver.
"""

from __future__ import annotations

from pathlib import Path

import pyrage
from django.conf import settings
from django.utils.translation import gettext as _

from waserver.backup.errors import BackupError

_FORM = "AGE-SECRET-KEY-1"


def load() -> pyrage.x25519.Identity:
    """Return the key. Raises BackupError when there is none or it is not one."""
    if settings.BACKUP_KEY:
        return _parsed(settings.BACKUP_KEY, "BACKUP_KEY")
    file = Path(settings.BACKUP_KEY_FILE)
    try:
        return _parsed(file.read_text(), str(file))
    except FileNotFoundError:
        text = _("There is no backup key: %(file)s is missing. Put the copy you kept there, or set BACKUP_KEY or "
                 "BACKUP_KEY_FILE.")  # fmt: skip
        raise BackupError(text % {"file": file}) from None
    except (OSError, UnicodeDecodeError) as error:
        text = _("The backup key %(file)s cannot be read (%(error)s).")
        raise BackupError(text % {"file": file, "error": error}) from None


def load_or_make() -> tuple[pyrage.x25519.Identity, str]:
    """Return the key, and a loud sentence when it was made just now (else "")."""
    file = Path(settings.BACKUP_KEY_FILE)
    if settings.BACKUP_KEY or file.exists():
        return load(), ""
    identity = pyrage.x25519.Identity.generate()
    try:
        # "x": of two processes that start together only one writes, the other reads.
        with file.open("x") as handle:
            file.chmod(0o600)
            handle.write(f"{identity}\n")
    except FileExistsError:
        return load(), ""
    except OSError as error:
        text = _("The backup key %(file)s cannot be written (%(error)s). Set BACKUP_KEY_FILE.")
        raise BackupError(text % {"file": file, "error": error.strerror}) from None
    text = _("A NEW BACKUP KEY WAS MADE: %(file)s. Copy it to a safe place that is not this machine, now: without it "
             "no backup can ever be opened.")  # fmt: skip
    return identity, text % {"file": file}


def _parsed(text: str, where: str) -> pyrage.x25519.Identity:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        if len(lines) != 1:
            raise ValueError
        return pyrage.x25519.Identity.from_str(lines[0])
    except (ValueError, pyrage.IdentityError):
        sentence = _("%(where)s does not hold a backup key: it is one line that begins with %(form)s.")
        raise BackupError(sentence % {"where": where, "form": _FORM}) from None
