"""Which session a log line is about, for lines that do not say so themselves. Without Django."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_fields: ContextVar[Mapping[str, int | str]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place


@contextmanager
def about(**fields: int | str) -> Iterator[None]:
    """Have every line logged inside, on this thread, carry these fields, e.g. session=7, account=3."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def current() -> Mapping[str, int | str]:
    """Return the fields in force."""
    return _fields.get()
