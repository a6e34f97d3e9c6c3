"""Texts of bulk sends: {{variables}} and {spin|tax}, pure.

`{{name}}` becomes the recipient's value, `{{name|there}}` has a default, `{Hi|Hello|Good {morning|day}}` becomes one of
its parts, nested too. A backslash takes the meaning from a brace or a bar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_ ]{0,39}?)\s*(?:\|([^{}]*))?\}\}")
#: Deeper nesting than this is a mistake.
_DEEPEST = 10
#: Protected characters, on their way through; from Unicode's private area, taken out of the template first.
_GUARDS = {"{": "\ue000", "}": "\ue001", "|": "\ue002", "\\": "\ue003"}
_UNGUARD = {guard: char for char, guard in _GUARDS.items()}

#: Picks one of several texts.
Choose = Callable[[Sequence[str]], str]


class TemplateError(ValueError):
    """A template cannot be filled in; the text is one sentence."""


def variables(template: str) -> list[str]:
    """Return the names a template uses, in order of first use."""
    return list(dict.fromkeys(match[1] for match in _VARIABLE.finditer(_guard_escapes(template))))


def fill(template: str, values: Mapping[str, str], choose: Choose) -> str:
    """Return the text for one recipient. Raises TemplateError for a missing value or unbalanced braces."""

    def value(match: re.Match[str]) -> str:
        given = values.get(match[1], "").strip() or (match[2] or "").strip()
        if not given and match[2] is None:
            raise TemplateError(f"There is no value for “{match[1]}”.")
        return _guard(given)  # a person called {x|y} is not spun

    text = _VARIABLE.sub(value, _guard_escapes(template))
    parts = list(_spun(text, choose))
    return "".join(_UNGUARD.get(char, char) for part in parts for char in part)


def check(template: str) -> None:
    """Raise TemplateError when no recipient could ever be served."""
    fill(template, dict.fromkeys(variables(template), "x"), lambda options: options[0])


def _spun(text: str, choose: Choose) -> Iterator[str]:
    position = 0
    while position < len(text):
        opening = text.find("{", position)
        plain_end = opening if opening >= 0 else len(text)
        if "}" in text[position:plain_end]:
            raise TemplateError("A closing brace has no opening one; write \\} for the character itself.")
        yield text[position:plain_end]
        if opening < 0:
            return
        options, position = _options(text, opening + 1, choose, 1)
        yield choose(options)


def _options(text: str, position: int, choose: Choose, depth: int) -> tuple[list[str], int]:
    """Return the parts of the braces opened before `position`, and where they end."""
    if depth > _DEEPEST:
        raise TemplateError("The braces are nested too deeply.")
    options = [""]
    while position < len(text):
        char = text[position]
        position += 1
        if char == "}":
            return options, position
        if char == "|":
            options.append("")
        elif char == "{":
            inner, position = _options(text, position, choose, depth + 1)
            options[-1] += choose(inner)
        else:
            options[-1] += char
    raise TemplateError("An opening brace is never closed; write \\{ for the character itself.")


def _guard_escapes(text: str) -> str:
    for guard in _UNGUARD:
        text = text.replace(guard, "")
    return re.sub(r"\\([{}|\\])", lambda match: _GUARDS[match[1]], text)


def _guard(text: str) -> str:
    return "".join(_GUARDS.get(char, char) for char in text if char not in _UNGUARD)
