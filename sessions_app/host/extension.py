"""What lives inside the host process without sessions_app knowing it: named by `settings.HOST_EXTENSIONS`.

An extension may talk through the clients of connected sessions and hears what arrives. It never stops the host: an
exception of its own is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from sessions_app.models import Host
from sessions_app.whatsapp.client import Client
from sessions_app.whatsapp.inbound import Inbound

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """A connected session this host owns, under one epoch of its lease."""

    session_id: int
    account_id: int
    epoch: int
    client: Client


#: Session id -> its line: those that may be used now. One that is being handed over is not among them.
Lines = Mapping[int, Line]


class Extension(Protocol):
    """One per process."""

    def start(self, host: Host, lines: Callable[[], Lines]) -> None:
        """Begin. `lines` may be asked from any thread, at any time."""

    def receive(self, account_id: int, inbound: Inbound) -> None:
        """Take what arrived, on a library thread: on disk when this returns, soon, without the database."""

    def settle(self, session_id: int | None, seconds: float) -> None:
        """Wait up to so long for what is under way on a session (None: on all) that is about to be stopped."""

    def finish(self, seconds: float) -> None:
        """All clients have stopped: write what is to be written and end, within so many seconds."""


class Extensions:
    """All of them as one."""

    def __init__(self, host: Host, lines: Callable[[], Lines]) -> None:
        self._all: list[Extension] = [import_string(path)() for path in settings.HOST_EXTENSIONS]
        for extension in self._all:
            extension.start(host, lines)

    def receive(self, account_id: int, inbound: Inbound) -> None:
        """Pass on what arrived."""
        self._each("receive", account_id, inbound)

    def settle(self, session_id: int | None, seconds: float) -> None:
        """Wait for what is under way."""
        self._each("settle", session_id, seconds)

    def finish(self, seconds: float) -> None:
        """End all."""
        self._each("finish", seconds)

    def _each(self, name: str, *arguments: object) -> None:
        for extension in self._all:
            try:
                getattr(extension, name)(*arguments)
            except Exception:  # noqa: BLE001 - the edge to foreign code
                _log.exception("A host extension failed")
