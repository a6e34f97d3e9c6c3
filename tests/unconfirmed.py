"""Commits nobody answers for: the connection ends at every third of a thread's; every other one of these was done.

What is changed by a single statement outside a transaction is committed by that statement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper


def leave_unconfirmed(monkeypatch: pytest.MonkeyPatch, thread: str) -> list[bool]:
    """Begin with it; return, as it grows, which of those commits were done."""
    commit, execute = BaseDatabaseWrapper._commit, CursorWrapper.execute  # type: ignore[attr-defined]
    numbers, done = count(1), list[bool]()

    def perhaps(work: Callable[..., Any], *arguments: Any) -> Any:
        if threading.current_thread().name != thread or next(numbers) % 3:
            return work(*arguments)
        done.append(len(done) % 2 == 0)
        if done[-1]:
            work(*arguments)
        raise OperationalError("Lost connection to server during query")

    def unconfirmed(cursor: Any, sql: str, *arguments: Any) -> Any:
        if cursor.db.in_atomic_block or not sql.startswith(("INSERT", "UPDATE", "DELETE")):
            return execute(cursor, sql, *arguments)
        return perhaps(execute, cursor, sql, *arguments)

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lambda database: perhaps(commit, database))
    monkeypatch.setattr(CursorWrapper, "execute", unconfirmed)
    return done
