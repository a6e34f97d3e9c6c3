"""A run of the library's call: when it is telling us something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sessions_app.whatsapp import gocall
from sessions_app.whatsapp.gocall import GoCall


class Ear:
    """Notes whether the library was telling when it told."""

    def __init__(self) -> None:
        self.call: GoCall
        self.telling: list[bool] = []

    def on_event(self, number: int, data: bytes) -> None:
        self.telling.append(self.call.telling)


def test_it_is_telling_until_no_other_event_can_be_about_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sessions_app.whatsapp.gocall.time", SimpleNamespace(monotonic=lambda: now[0]))
    ear: Any = Ear()
    library: Any = None  # not called
    ear.call = call = GoCall(library, "1.sqlite3", "", b"", b"", ear)
    assert not call.telling
    call._event(b"", 0, 0, 1)
    assert ear.telling == [True]
    assert call.telling
    now[0] += gocall._BETWEEN
    assert not call.telling
