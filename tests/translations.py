"""The texts of the product and their translations: `python -m tests.translations` checks, `--write` updates.

Reads the sources itself (Python by its syntax tree, templates through Django's templatize), so gettext's tools are not
needed. The catalogues are locale/LANGUAGE/LC_MESSAGES/django.po and the compiled .mo beside it, both in git.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polib
from django.utils.translation.template import templatize

ROOT = Path(__file__).parents[1]
APPS = ("accounts", "sessions_app", "messaging", "monitoring", "waserver")
LANGUAGES = ("id",)
#: Function of django.utils.translation -> how many texts it takes (singular, plural), after a context if any.
FUNCTIONS = {
    "gettext": 1, "gettext_lazy": 1, "gettext_noop": 1, "ngettext": 2, "ngettext_lazy": 2,
}  # fmt: skip
#: Texts of the admin's look, unfold, which brings no catalogue of its own.
LOOK = (
    "Run", "Filters", "Welcome back to", "Forgotten your password or username?", "Type to search", "No data",
    "You have been successfully logged out from the administration", "More actions", "All applications", "True",
    "False", "Apply Filters", "Select all rows", "Recent searches", "No recent searches", "No results found",
    "No results matching your query", "Loading more results...", "Cancel", "Submit", "Expand row",
    "This item will be deleted.", "Click to cancel", "Reset filters", "Go back", "Previous", "Next", "General",
    "This page yielded into no results. Create a new item or reset your filters.", "Search apps and models...",
    "Light", "Dark", "System", "Return to site", "%(full_result_count)s total", "Choose file to upload",
    "Toggle password visibility", "Select record", "Select action", "Value", "From", "To", "Date from", "Date to",
    "Select action to run", "Select value", "Welcome", "Date",
)
_PLACEHOLDER = re.compile(r"%\(\w+\)[0-9.]*[sdfg]|%[sd]|\{\w*\}")
_CALL = re.compile(r"\b(n?gettext|_)\(")


@dataclass(frozen=True)
class Text:
    """One translatable text, and where it stands."""

    singular: str
    plural: str
    where: str


def in_python(path: Path) -> Iterator[Text]:
    """Yield the texts of a Python file."""
    tree = ast.parse(path.read_text())
    names: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation":
            names |= {one.asname or one.name: FUNCTIONS[one.name] for one in node.names if one.name in FUNCTIONS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            texts = node.args[: names[node.func.id]]
            if all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in texts):
                yield _text([one.value for one in texts], path)  # type: ignore[attr-defined]


def in_template(path: Path) -> Iterator[Text]:
    """Yield the texts of a template."""
    source = templatize(path.read_text())
    for found in _CALL.finditer(source):
        for end in (at.end() for at in re.finditer(r"\)", source) if at.end() > found.end()):
            try:
                call = ast.parse(source[found.start() : end], mode="eval").body
            except SyntaxError:
                continue
            assert isinstance(call, ast.Call)
            count = 2 if found[1] == "ngettext" else 1
            texts = [one.value for one in call.args[:count] if isinstance(one, ast.Constant)]
            if len(texts) == count:
                yield _text([str(text) for text in texts], path)
            break


def _text(texts: list[str], path: Path) -> Text:
    return Text(texts[0], texts[1] if len(texts) > 1 else "", str(path.relative_to(ROOT)))


def collect() -> dict[str, list[Text]]:
    """Return all texts by their singular."""
    python = (path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts)
    templates = (path for folder in (ROOT, *(ROOT / app for app in APPS))
                 for path in (folder / "templates").rglob("*.html"))  # fmt: skip
    texts: dict[str, list[Text]] = {text: [Text(text, "", "unfold")] for text in LOOK}
    for found in (*map(in_python, sorted(python)), *map(in_template, sorted(templates))):
        for text in found:
            texts.setdefault(text.singular, []).append(text)
    return texts


def catalogue(language: str) -> Path:
    """Return where the translations of a language are."""
    return ROOT / "locale" / language / "LC_MESSAGES" / "django.po"


def write(language: str, texts: dict[str, list[Text]]) -> None:
    """Bring the catalogue up to date: new texts empty, unused ones dropped, translations kept; compile it."""
    old = polib.pofile(str(catalogue(language)))
    known = {entry.msgid: entry for entry in old}
    new = polib.POFile(wrapwidth=120)
    new.metadata = old.metadata
    for singular, places in sorted(texts.items()):
        entry = known.get(singular) or polib.POEntry(msgid=singular)
        plural = next((place.plural for place in places if place.plural), "")
        if plural and not entry.msgid_plural:
            entry = polib.POEntry(msgid=singular, msgid_plural=plural, msgstr_plural={0: entry.msgstr})
        entry.occurrences = [(where, "") for where in sorted({place.where for place in places})]
        new.append(entry)
    new.save(str(catalogue(language)))
    new.save_as_mofile(str(catalogue(language).with_suffix(".mo")))


def problems(language: str, texts: dict[str, list[Text]]) -> Iterator[str]:
    """Yield what is missing or wrong, a line each."""
    entries = {entry.msgid: entry for entry in polib.pofile(str(catalogue(language)))}
    for singular, places in sorted(texts.items()):
        entry = entries.get(singular)
        translations = [] if entry is None else [*entry.msgstr_plural.values()] or [entry.msgstr]
        if not translations or not all(translations) or (entry is not None and entry.fuzzy):
            yield f"{language}: not translated ({places[0].where}): {singular!r}"
            continue
        wanted = set(_PLACEHOLDER.findall(singular)) | set(_PLACEHOLDER.findall(places[0].plural))
        for translation in translations:
            if set(_PLACEHOLDER.findall(translation)) != wanted:
                yield f"{language}: other placeholders than {sorted(wanted)}: {translation!r}"
    yield from (f"{language}: no longer used: {unused!r}" for unused in entries.keys() - texts.keys())
    compiled = polib.mofile(str(catalogue(language).with_suffix(".mo")))
    if {entry.msgid: entry.msgstr for entry in compiled} != {m: e.msgstr for m, e in entries.items() if e.translated()}:
        yield f"{language}: the compiled catalogue is older than the text: python -m tests.translations --write"


def untranslated(path: Path) -> Iterator[str]:
    """Yield the texts of a command that cannot be translated: help and errors that are written out as they are."""
    for node in ast.walk(ast.parse(path.read_text())):
        said: list[ast.expr] = []
        if isinstance(node, ast.Call):
            said += [keyword.value for keyword in node.keywords if keyword.arg == "help"]
            if isinstance(node.func, ast.Name) and node.func.id == "CommandError":
                said += node.args
        elif isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["help"]:
            said.append(node.value)
        for one in said:
            if isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and isinstance(one.value, str)):
                yield f"{path.relative_to(ROOT)}:{one.lineno}: cannot be translated: {ast.unparse(one)}"


def main() -> int:
    """Check, or write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="bring the catalogues up to date, then check")
    texts = collect()
    chosen = options.parse_args()
    if chosen.write:
        for language in LANGUAGES:
            write(language, texts)
    found = [line for language in LANGUAGES for line in problems(language, texts)]
    found += [line for path in sorted(ROOT.glob("*/management/commands/*.py")) for line in untranslated(path)]
    print("\n".join(found) or f"{len(texts)} texts, all translated into {', '.join(LANGUAGES)}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
