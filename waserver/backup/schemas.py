"""Device stores in PostgreSQL: dumped by its own program while hosts use them, put back where they are missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from sessions_app.whatsapp import postgres_store
from sessions_app.whatsapp.client import WhatsAppError
from waserver.backup.errors import BackupError

MEMBER = "devices.pgdump"


def there() -> set[str]:
    """Return the names of the stores the server has. Raises BackupError."""
    if not settings.DEVICE_STORE_URL:
        raise BackupError(_("DEVICE_STORE_URL is not set; set it to the PostgreSQL that has the device keys."))
    try:
        return set(postgres_store.names(settings.DEVICE_STORE_URL))
    except WhatsAppError as error:
        raise BackupError(str(error)) from None


def dump(file: Path, names: Sequence[str]) -> None:
    """Write the stores of these names, from one transaction. Raises BackupError."""
    _run("pg_dump", file.parent, ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}", *_of(names)])
    file.chmod(0o600)


def missing(names: Sequence[str]) -> list[str]:
    """Return those of these stores whose keys are not there. Raises BackupError when that cannot be told.

    One that is there stays as it is, whatever a backup holds: its keys are newer, and older ones lose messages.
    """
    if not names:
        return []
    if not settings.DEVICE_STORE_URL:
        text = _("The backup holds the keys of %(count)d accounts from PostgreSQL: set DEVICE_STORE_URL to where they "
                 "are to be restored.")  # fmt: skip
        raise BackupError(text % {"count": len(names)})
    there()  # what follows answers True when nobody answers
    return [name for name in names if not postgres_store.holds_device(_address(name))]


def check(file: Path) -> None:
    """Raise BackupError when a dump cannot be read."""
    _run("pg_restore", file.parent, ["--list", str(file)])


@contextlib.contextmanager
def restored(file: Path, names: Sequence[str]) -> Iterator[None]:
    """Have these stores in the server while the rest of a restore is made; when that fails, only what was there before.

    One whose keys are there stays as it is: see `missing`. Raises BackupError.
    """
    if not names:
        yield
        return
    made: list[str] = []
    try:
        with postgres_store.kept(settings.DEVICE_STORE_URL):
            absent = missing(names)
            for name in absent:
                # Of a pairing that was never finished, for one.
                postgres_store.delete(_address(name))
                made.append(name)
                postgres_store.create(_address(name), empty=True)
            if absent:
                _run("pg_restore", file.parent, ["--no-owner", "--no-privileges", "--single-transaction",
                                                 "--exit-on-error", *_of(absent), "--dbname=", str(file)])  # fmt: skip
            yield
    except BaseException as error:
        for name in made:
            postgres_store.delete(_address(name))
        if isinstance(error, WhatsAppError):
            raise BackupError(str(error)) from None
        raise


def _address(name: str) -> str:
    return postgres_store.address(settings.DEVICE_STORE_URL, name)


def _of(names: Sequence[str]) -> list[str]:
    return [f"--schema={name.removeprefix(postgres_store.PREFIX)}" for name in names]


def _run(program: str, folder: Path, arguments: Sequence[str]) -> None:
    """Run it against DEVICE_STORE_URL, whose password goes through a file only we can read."""
    if shutil.which(program) is None:
        text = _("%(program)s is not installed, so device keys in PostgreSQL cannot be backed up or restored: install "
                 "the package postgresql-client.")  # fmt: skip
        raise BackupError(text % {"program": program})
    service = folder / "service.conf"
    service.touch(0o600)
    values = postgres_store.parameters(settings.DEVICE_STORE_URL)
    service.write_text("".join(["[stores]\n", *(f"{key}={value}\n" for key, value in values.items())]))
    environment = {**os.environ, "PGSERVICEFILE": str(service), "PGSERVICE": "stores"}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    service.unlink()
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "error" in line] or [_("it said nothing")]
        text = _("%(program)s failed for the device keys in PostgreSQL: %(error)s.")
        raise BackupError(text % {"program": program, "error": words[0].rstrip(".")})
