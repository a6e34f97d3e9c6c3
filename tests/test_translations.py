"""Indonesian: every text has its translation, and pages and commands follow the reader's language."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from django.contrib.auth.models import User
from django.core.management import get_commands, load_command_class
from django.test import Client
from django.urls import reverse
from django.utils.translation import override

from accounts.models import Account
from tests import translations
from tests.database import Database
from tests.installation import ROOT


def test_texts_are_found_in_python_and_in_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    python, template = tmp_path / "one.py", tmp_path / "one.html"
    python.write_text('from django.utils.translation import gettext_lazy as lazy, ngettext\n'
                      'a = lazy("one " "text")\nb = ngettext("%(n)d dog", "%(n)d dogs", 2)\nc = lazy(a)\n')  # fmt: skip
    template.write_text('{% load i18n %}{% translate "two (2)" %}{% blocktranslate count n=n %}{{ n }} cat{% plural %}'
                        '{{ n }} cats{% endblocktranslate %}{{ x|default:_("three") }}')  # fmt: skip
    assert [(t.singular, t.plural) for t in translations.in_python(python)] == [
        ("one text", ""), ("%(n)d dog", "%(n)d dogs"),
    ]  # fmt: skip
    assert [(t.singular, t.plural) for t in translations.in_template(template)] == [
        ("two (2)", ""), ("%(n)s cat", "%(n)s cats"), ("three", ""),
    ]  # fmt: skip


def test_what_a_command_says_in_english_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    command = tmp_path / "one.py"
    command.write_text('class Command:\n    help = "one"\np.add_argument("x", help="two")\n'
                       'p.add_argument("y", help=_("three"))\nraise CommandError(f"four {p}")\n'
                       'raise CommandError(_("five"))\n')  # fmt: skip
    said = [line.rpartition(": ")[2] for line in translations.untranslated(command)]
    assert sorted(said) == ["'one'", "'two'", "f'four {p}'"]


@pytest.mark.parametrize(
    ("text", "translation", "words"),
    [("new text", "", "not translated"), ("%(n)d dogs", "%(m)d anjing", "other placeholders"), ("", "", "no longer")],
)
def test_what_is_missing_wrong_or_left_over_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, translation: str, words: str
) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    folder = tmp_path / "locale" / "id" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    catalogue = polib.POFile()
    catalogue.append(polib.POEntry(msgid=text or "old text", msgstr=translation or ("teks" if not text else "")))
    catalogue.save(str(folder / "django.po"))
    catalogue.save_as_mofile(str(folder / "django.mo"))
    texts = {text: [translations.Text(text, "", "one.py")]} if text else {}
    assert [words in line for line in translations.problems("id", texts)] == [True]


@pytest.mark.django_db
def test_a_page_follows_the_browser_and_the_users_own_choice(client: Client) -> None:
    account = Account.objects.create(label="Kantor")
    client.force_login(User.objects.create_superuser("ana"), backend="django.contrib.auth.backends.ModelBackend")
    page = reverse("admin:accounts_account_change", args=[account.pk])
    english, indonesian = "No phone is linked to this account yet.", "Belum ada telepon yang tertaut ke akun ini."
    assert english in client.get(page).content.decode()
    assert indonesian in client.get(page, HTTP_ACCEPT_LANGUAGE="id,en;q=0.5").content.decode()
    client.post("/i18n/setlang/", {"language": "id"})
    assert indonesian in client.get(page, HTTP_ACCEPT_LANGUAGE="en").content.decode()


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")))
def test_a_command_explains_itself_in_indonesian(name: str) -> None:
    with override("id"):
        command = load_command_class(get_commands()[name], name)
        parser = command.create_parser("manage.py", name)
        words = str(command.help).split()
    assert words != str(command.help).split()
    assert " ".join(words) in " ".join(parser.format_help().split())


def test_a_command_speaks_the_language_of_the_server(tmp_path: Path, another_database: Database) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "accounts", "list"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "VAR_DIR": str(tmp_path), "LANGUAGE_CODE": "id", "DATABASE_URL": another_database.url},
    )  # fmt: skip
    assert "Basis data belum disiapkan" in answer.stderr
