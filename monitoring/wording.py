"""Words a row keeps in every language of the installation: whoever reads them is not the process that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from django.conf import settings
from django.utils import translation
from django.utils.functional import Promise, lazy

#: Words that str() says in the language that is active then; a plain string is what people typed.
Words = str | Promise

P = ParamSpec("P")


def later(said: Callable[P, str]) -> Callable[P, Words]:
    """Decorate a function that says something in the active language: call it now, have it said later."""
    return lazy(said, str)


@later
def filled(text: Words, values: Mapping[str, Any]) -> str:
    """Return `text` % values."""
    return str(text) % values


def in_each_language(text: Words) -> dict[str, str]:
    """Return the words by language, for a JSON field; none of a plain string."""
    if not isinstance(text, Promise):
        return {}
    said = {}
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            said[code] = str(text)
    return said


def in_mine(said: Mapping[str, str], otherwise: str) -> str:
    """Return what was kept for the language that is active; `otherwise` where nothing was."""
    return said.get(translation.get_language() or "", otherwise)
