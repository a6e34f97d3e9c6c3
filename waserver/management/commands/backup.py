"""`manage.py backup create|list|verify|restore|export|import`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from sessions_app.management.commands.sessions import find
from sessions_app.management.output import OurCommand
from waserver.backup import BackupError, account, archive, create, key, restore
from waserver.backup.restoring import QUARANTINE_DAYS
from waserver.backup.settling import settle
from waserver.backup.target import Target


class Command(OurCommand):
    help = "Back up, check and restore everything: the database, the device keys, the secret key."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        made = commands.add_parser("create", help="write an encrypted archive and read it back; the server may run")
        made.add_argument("--reason", default="", help="a word for the archive's name")
        listed = commands.add_parser("list", help="the archives at BACKUP_URL")
        checked = commands.add_parser("verify", help="read an archive to its end and check every byte")
        checked.add_argument("archive", nargs="?", default="", help="a name of `list`, or a file; default: the newest")
        restored = commands.add_parser("restore", help="put a backup in the place of what is here")
        restored.add_argument("archive", nargs="?", default="", help="as for verify")
        restored.add_argument("--dry-run", action="store_true", help="unpack, check and migrate it, then stop")
        restored.add_argument("--force", action="store_true",
                              help="even beside a running server, or over newer device keys")  # fmt: skip
        restored.add_argument("--yes", action="store_true", help="do not ask")
        exported = commands.add_parser("export", help="one account with its keys, to be imported elsewhere")
        exported.add_argument("account", help="its label, its number, or its session's id")
        exported.add_argument("file", nargs="?", default="", help="to be made; default: named after the account")
        imported = commands.add_parser("import", help="an account that was exported")
        imported.add_argument("file")
        imported.add_argument("--start", action="store_true", help="connect it; only when it is stopped elsewhere")
        commands.add_parser("settle")  # run by restore on the copy
        for command in (made, listed, checked, restored):
            command.add_argument("--json", action="store_true", help="print JSON")

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
        counts = made.counts
        self.stdout.write(
            f"{made.name} at {made.url}: {counts['accounts']} accounts, {counts['stores']} device stores, "
            f"{made.size / 1e6:.1f} MB, read back and sound, in {made.took:.1f} s."
        )

    def _list(self, options: dict[str, Any]) -> None:
        target = Target()
        archives = target.list()
        if options["json"]:
            self.print_json([{"name": one.name, "created_at": one.created_at, "bytes": one.size} for one in archives])
            return
        for one in archives:
            self.stdout.write(f"{one.name}  {one.created_at:%Y-%m-%d %H:%M:%S} UTC  {one.size / 1e6:.1f} MB")
        if not archives:
            self.stdout.write(f"There is no backup at {target.url}: `manage.py backup create` makes one.")

    def _verify(self, options: dict[str, Any]) -> None:
        target = Target()
        name = options["archive"] or target.newest()
        with target.open(name) as source:
            manifest = archive.read(source, key.load())
        if options["json"]:
            self.print_json({"archive": name, "sound": True, "created_at": manifest.created_at, **manifest.counts})
            return
        self.stdout.write(f"{name} is sound: {manifest.counts['accounts']} accounts, {len(manifest.stores)} device "
                          f"stores, made {manifest.created_at[:19]} on {manifest.machine}.")  # fmt: skip
        for one in manifest.damaged:
            self.stderr.write(self.style.WARNING(f"{one} could not be read when the backup was made."))

    def _restore(self, options: dict[str, Any]) -> None:
        name = options["archive"] or Target().newest()
        if not options["dry_run"] and not options["yes"]:
            question = f"Put {name} in the place of the database and the device keys here?"
            if not sys.stdin.isatty():
                raise CommandError(f"{question} Say so with --yes, or try it with --dry-run.")
            if input(f"{question} What is here goes into quarantine. [y/N] ").lower() != "y":
                raise CommandError("Nothing was done.")
        done = restore(name, force=options["force"], dry_run=options["dry_run"])
        manifest = done.manifest
        for text in done.forced:
            self.stderr.write(self.style.WARNING(f"Forced: {text}"))
        if options["json"]:
            self.print_json({"archive": name, "restored": not options["dry_run"], "created_at": manifest.created_at,
                             **manifest.counts, **done.settled, "quarantine": done.quarantine})  # fmt: skip
            return
        verb = "would be restored; nothing was changed" if options["dry_run"] else "restored"
        self.stdout.write(f"{manifest.counts['accounts']} accounts and {manifest.counts['stores']} device stores of "
                          f"{manifest.created_at[:19]} {verb}.")  # fmt: skip
        if done.settled["uncertain"]:
            self.stdout.write(f"{done.settled['uncertain']} messages that waited then may have been sent since: they "
                              "are marked uncertain, and a person decides.")  # fmt: skip
        for one in [*manifest.damaged, *manifest.missing]:
            self.stderr.write(self.style.WARNING(f"{one} was damaged or missing when the backup was made: that "
                                                 "account has to be paired again."))  # fmt: skip
        if done.quarantine:
            self.stdout.write(f"What was here is in {done.quarantine} for {QUARANTINE_DAYS} days.")
        if not options["dry_run"]:
            self.stdout.write("Start the server: make run, or manage.py server start.")

    def _export(self, options: dict[str, Any]) -> None:
        session = find(options["account"])
        file = Path(options["file"] or account.file_name(session.account))
        manifest = account.export(session, file)
        keys = "with its keys" if manifest.stores else "which has no keys yet"
        self.stdout.write(f"{session.account}, {keys}, is in {file}. Import it with the same backup key, and do not "
                          "start it here again: two places that use one set of keys throw each other out.")  # fmt: skip

    def _import(self, options: dict[str, Any]) -> None:
        made = account.take_in(Path(options["file"]), options["start"])
        following = f"It is offline. Stop it where it came from, then: manage.py sessions start \"{made}\"."
        if options["start"]:
            following = "It is being connected."
        self.stdout.write(f"{made} was imported. {following}")

    def _settle(self, options: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(settle(timezone.now())))
