"""One account on its way to another installation: its row and its device keys, in an archive of its own."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from accounts.models import Account, Desired
from sessions_app.models import Session
from sessions_app.states import State
from sessions_app.whatsapp import device_store
from waserver.backup import archive, database, key, schemas, stores
from waserver.backup.archive import Manifest
from waserver.backup.errors import BackupError
from waserver.backup.lock import workplace
from waserver.backup.making import applied_migrations, told

_ROW = "account.json"
_OF_ACCOUNT = ("label", "phone", "proxy", "important")
_OF_SESSION = ("lid", "push_name", "platform")


def export(session: Session, file: Path) -> Manifest:
    """Write an account and its keys to a file. Raises BackupError.

    Refused while a host has the session: its keys change with every message, and two places that use one set of keys
    throw each other out (440).
    """
    account = session.account
    if file.exists():
        raise BackupError(_("%(file)s exists already: choose another name.") % {"file": file})
    if session.host_id is not None:
        text = _('%(account)s is in use by %(host)s: stop it first, `manage.py sessions stop "%(account)s"`, so that '
                 "its keys do not change any more.")  # fmt: skip
        raise BackupError(text % {"account": account, "host": session.host})
    identity, _loud = key.load_or_make()
    try:
        with workplace() as folder:
            row = {name: getattr(account, name) for name in _OF_ACCOUNT}
            row |= {name: getattr(session, name) for name in _OF_SESSION}
            row |= {"paired_at": session.paired_at.isoformat() if session.paired_at else None}
            (folder / _ROW).write_text(json.dumps(row))
            kept = {}
            if session.store:
                kept[session.store] = _copy_keys(session, folder)
            manifest = Manifest(
                kind="account", created_at=timezone.now().isoformat(), machine=platform.node(), reason=account.label,
                engine=database.engine(), migrations=applied_migrations(), stores=kept,
                counts={"accounts": 1, "stores": len(kept)},
                members=[archive.member(name, folder / name) for name in (_ROW, *kept.values())],
            )  # fmt: skip
            with (folder / "export").open("xb") as out:
                archive.write(out, manifest, folder, identity)
            (folder / "export").chmod(0o600)
            _move(folder / "export", file)
    except OSError as error:
        raise BackupError(_("The account could not be exported: %(error)s") % {"error": told(error)}) from None
    return manifest


def _copy_keys(session: Session, folder: Path) -> str:
    """Copy the keys into the folder; return the member they are in."""
    in_file = device_store.is_file(session.store)
    if not (device_store.exists(session.store_path) if in_file else session.store in schemas.there()):
        text = _("The device store of %(account)s is not there, so there are no keys to export.")
        raise BackupError(text % {"account": session.account})
    if not in_file:
        schemas.dump(folder / schemas.MEMBER, [session.store])
        return schemas.MEMBER
    (folder / stores.FOLDER).mkdir()
    member = f"{stores.FOLDER}/keys.sqlite3"
    database.copy_sqlite(Path(session.store_path), folder / member)
    return member


def take_in(file: Path, start: bool = False) -> Account:
    """Make the account of an export, offline unless `start`. Raises BackupError; then nothing was changed.

    Refused when the label or the number is here already.
    """
    try:
        with workplace() as folder, file.open("rb") as source:
            manifest = archive.read(source, key.load(), folder / "new", _acceptable)
            row = json.loads((folder / "new" / _ROW).read_text())
            with _in_place(manifest, folder / "new") as store:
                account = _make(row, store)
            if start and store:  # the account stands now, and its keys with it, whatever comes of this
                Session.objects.get(account=account).request_start("manage.py backup import")
            return account
    except FileNotFoundError as error:
        raise BackupError(_("There is no file %(file)s.") % {"file": error.filename}) from None
    except OSError as error:
        raise BackupError(_("The account could not be imported: %(error)s") % {"error": told(error)}) from None


@contextlib.contextmanager
def _in_place(manifest: Manifest, folder: Path) -> Iterator[str]:
    """Have the keys where a session finds them while the account is made, not when that fails; yield their store."""
    if not manifest.stores:
        yield ""
        return
    ((name, member),) = manifest.stores.items()
    if member != schemas.MEMBER:
        placed: Path = settings.DEVICES_DIR / f"import-{uuid.uuid4().hex[:12]}.sqlite3"
        (folder / member).rename(placed)
        try:
            yield placed.name
        except BaseException:
            placed.unlink(missing_ok=True)
            raise
        return
    if not settings.DEVICE_STORE_URL:
        raise BackupError(_("The keys of this account are for PostgreSQL: set DEVICE_STORE_URL to where they are to be "
                            "put."))  # fmt: skip
    if Session.objects.filter(store=name).exists():
        raise BackupError(_("An account here has these keys: one set of keys serves one account."))
    with schemas.restored(folder / member, [name]):  # keys that are there are those that were exported, or newer
        yield name


def _make(row: dict[str, Any], store: str) -> Account:
    """Make the account, with the keys of a store that is there, or none ("")."""
    account = Account(**{name: row.get(name) for name in _OF_ACCOUNT}, desired=Desired.OFFLINE)
    try:
        account.full_clean(exclude={"phone"})  # not read again, as if somebody had typed it
        account.validate_unique()
    except ValidationError as error:
        text = _("%(account)s cannot be imported: %(error)s")
        raise BackupError(text % {"account": row.get("label"), "error": " ".join(error.messages)}) from None
    with transaction.atomic():
        account.save()
        values: dict[str, Any] = {name: row.get(name) or "" for name in _OF_SESSION}
        if store:
            values |= {"state": State.STOPPED, "store": store, "paired_at": parse_datetime(row["paired_at"] or "")}
        Session.objects.filter(account=account).update(**values)
    return account


def _acceptable(manifest: Manifest) -> None:
    if manifest.kind != "account":
        raise BackupError(_("This is a whole backup: `manage.py backup restore` takes it."))


def _move(source: Path, target: Path) -> None:
    """Move it there whole, also over to another file system."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.touch(0o600)
        partial.write_bytes(source.read_bytes())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def file_name(account: Account) -> str:
    """Return a name for an export."""
    word = re.sub(r"\W+", "-", account.label).strip("-") or "account"
    return f"{word}-{timezone.now():%Y%m%d}.account.age"
