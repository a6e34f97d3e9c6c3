"""`manage.py backup create|list|verify|restore|export|import`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.management.commands.sessions import find
from sessions_app.management.output import OurCommand
from waserver.backup import BackupError, account, archive, create, files, key, restore
from waserver.backup.restoring import QUARANTINE_DAYS
from waserver.backup.settling import settle
from waserver.backup.target import Target


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "Back up, check and restore everything: the database, the device keys, the secret key."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        made = commands.add_parser("create", help=_("write an encrypted archive and read it back; the server may run"))
        made.add_argument("--reason", default="", help=_("a word for the archive's name"))
        listed = commands.add_parser("list", help=_("the archives at BACKUP_URL"))
        checked = commands.add_parser("verify", help=_("read an archive to its end and check every byte"))
        checked.add_argument("archive", nargs="?", default="",
                             help=_("a name of `list`, or a file; default: the newest"))  # fmt: skip
        restored = commands.add_parser("restore", help=_("put a backup in the place of what is here"))
        restored.add_argument("archive", nargs="?", default="", help=_("as for verify"))
        restored.add_argument("--dry-run", action="store_true", help=_("unpack, check and migrate it, then stop"))
        restored.add_argument("--force", action="store_true",
                              help=_("even beside a running server, or over newer device keys"))  # fmt: skip
        restored.add_argument("--yes", action="store_true", help=_("do not ask"))
        exported = commands.add_parser("export", help=_("one account with its keys, to be imported elsewhere"))
        exported.add_argument("account", help=_("its label, its number, or its session's id"))
        exported.add_argument("file", nargs="?", default="", help=_("to be made; default: named after the account"))
        imported = commands.add_parser("import", help=_("an account that was exported"))
        imported.add_argument("file")
        imported.add_argument("--start", action="store_true", help=_("connect it; only when it is stopped elsewhere"))
        commands.add_parser("settle")  # run by restore on the copy
        for command in (made, listed, checked, restored):
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['what']}")(options)
        except BackupError as error:
            raise CommandError(str(error)) from None

    def _create(self, options: dict[str, Any]) -> None:
        made = create(options["reason"])
        for warning in made.warnings:
            self.stderr.write(self.style.WARNING(warning))
        if options["json"]:
            self.print_json({"name": made.name, "url": made.url, "seconds": round(made.took, 2), **made.counts})
            return
        text = _("%(name)s at %(url)s: %(accounts)d accounts, %(stores)d device stores, %(mb).1f MB, read back and "
                 "sound, in %(seconds).1f s.")  # fmt: skip
        self.stdout.write(text % {
            "name": made.name, "url": made.url, "accounts": made.counts["accounts"], "stores": made.counts["stores"],
            "mb": made.size / 1e6, "seconds": made.took,
        })  # fmt: skip
        if made.counts["media"]:
            self._tell_files(made.counts)
        elif next(files.there(), None) is not None:
            self.stdout.write(_("Files of messages are not inside: BACKUP_MEDIA=true puts them in."))

    def _list(self, options: dict[str, Any]) -> None:
        target = Target()
        archives = target.list()
        if options["json"]:
            self.print_json([{"name": one.name, "created_at": one.created_at, "bytes": one.size} for one in archives])
            return
        for one in archives:
            self.stdout.write(f"{one.name}  {one.created_at:%Y-%m-%d %H:%M:%S} UTC  {one.size / 1e6:.1f} MB")
        if not archives:
            text = _("There is no backup at %(url)s: `manage.py backup create` makes one.")
            self.stdout.write(text % {"url": target.url})

    def _verify(self, options: dict[str, Any]) -> None:
        target = Target()
        name = options["archive"] or target.newest()
        with target.open(name) as source:
            manifest = archive.read(source, key.load())
        if options["json"]:
            self.print_json({"archive": name, "sound": True, "created_at": manifest.created_at, **manifest.counts})
            return
        text = _("%(name)s is sound: %(accounts)d accounts, %(stores)d device stores, made %(moment)s on %(machine)s.")
        self.stdout.write(text % {
            "name": name, "accounts": manifest.counts["accounts"], "stores": len(manifest.stores),
            "moment": manifest.created_at[:19], "machine": manifest.machine,
        })  # fmt: skip
        self._tell_files(manifest.counts)
        for one in manifest.damaged:
            text = _("%(name)s could not be read when the backup was made.")
            self.stderr.write(self.style.WARNING(text % {"name": one}))

    def _restore(self, options: dict[str, Any]) -> None:
        name = options["archive"] or Target().newest()
        if not options["dry_run"] and not options["yes"]:
            question = _("Put %(name)s in the place of the database and the device keys here?") % {"name": name}
            if not sys.stdin.isatty():
                raise CommandError(question + " " + _("Say so with --yes, or try it with --dry-run."))
            if input(question + " " + _("What is here goes into quarantine. [y/N]") + " ").lower() != "y":
                raise CommandError(_("Nothing was done."))
        done = restore(name, force=options["force"], dry_run=options["dry_run"])
        manifest = done.manifest
        for text in done.forced:
            self.stderr.write(self.style.WARNING(_("Forced: %(text)s") % {"text": text}))
        if options["json"]:
            self.print_json({"archive": name, "restored": not options["dry_run"], "created_at": manifest.created_at,
                             **manifest.counts, **done.settled, "stores_kept": done.kept,
                             "quarantine": done.quarantine})  # fmt: skip
            return
        text = _("%(accounts)d accounts and %(stores)d device stores of %(moment)s restored.")
        if options["dry_run"]:
            text = _("%(accounts)d accounts and %(stores)d device stores of %(moment)s would be restored; nothing was "
                     "changed.")  # fmt: skip
        self.stdout.write(text % {
            "accounts": manifest.counts["accounts"], "stores": manifest.counts["stores"],
            "moment": manifest.created_at[:19],
        })  # fmt: skip
        self._tell_files(manifest.counts)
        if done.kept:
            text = _("%(count)d device stores in PostgreSQL were there: they stay as they are, since older keys lose "
                     "messages.")  # fmt: skip
            self.stdout.write(text % {"count": done.kept})
        if done.settled["uncertain"]:
            text = _("%(count)d messages that waited then may have been sent since: they are marked uncertain, and a "
                     "person decides.")  # fmt: skip
            self.stdout.write(text % {"count": done.settled["uncertain"]})
        for one in [*manifest.damaged, *manifest.missing]:
            text = _("%(name)s was damaged or missing when the backup was made: that account has to be paired again.")
            self.stderr.write(self.style.WARNING(text % {"name": one}))
        if done.quarantine:
            text = _("What was here is in %(folder)s for %(days)d days.")
            self.stdout.write(text % {"folder": done.quarantine, "days": QUARANTINE_DAYS})
        if not options["dry_run"]:
            self.stdout.write(_("Start the server: make run, or manage.py server start."))

    def _export(self, options: dict[str, Any]) -> None:
        session = find(options["account"])
        file = Path(options["file"] or account.file_name(session.account))
        manifest = account.export(session, file)
        text = _("%(account)s, which has no keys yet, is in %(file)s.")
        if manifest.stores:
            text = _("%(account)s, with its keys, is in %(file)s.")
        following = _("Import it with the same backup key, and do not start it here again: two places that use one "
                      "set of keys throw each other out.")  # fmt: skip
        self.stdout.write(text % {"account": session.account, "file": file} + " " + following)

    def _import(self, options: dict[str, Any]) -> None:
        made = account.take_in(Path(options["file"]), options["start"])
        text = _('It is offline. Stop it where it came from, then: manage.py sessions start "%(account)s".')
        if options["start"]:
            text = _("It is being connected.")
        self.stdout.write((_("%(account)s was imported.") + " " + text) % {"account": made})

    def _tell_files(self, counts: dict[str, int]) -> None:
        if count := counts.get("media"):  # older archives do not say
            self.stdout.write(_("It holds %(count)d files of messages.") % {"count": count})

    def _settle(self, options: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(settle(timezone.now())))
