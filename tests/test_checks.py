"""The checks of the installation."""

from __future__ import annotations

from typing import Any

import pytest

from messaging import checks


class Answering:
    """A MySQL connection whose database has this character set."""

    vendor, settings_dict = "mysql", {"NAME": "waserver"}

    def __init__(self, name: str) -> None:
        self._name = name

    def cursor(self) -> Answering:
        return self

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def execute(self, _query: str) -> None: ...

    def fetchone(self) -> tuple[str]:
        return (self._name,)


@pytest.mark.parametrize(("name", "errors"), [("utf8mb4", 0), ("utf8mb3", 1), ("latin1", 1)])
def test_a_database_that_cannot_hold_emoji_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, errors: int) -> None:
    monkeypatch.setattr(checks, "connections", {"default": Answering(name)})
    found = checks.characters(None, ["default"])
    assert len(found) == errors
    assert all("ALTER DATABASE" in str(error.hint) for error in found)
