"""Finding one row by its key, for the few lookups that every request of the API makes."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from django.db.models import Model

M = TypeVar("M", bound=Model)


def lookup(model: type[M], columns: tuple[str, ...] = ("*",), /, **values: str | int) -> M | None:
    """Return the first row with these values in these columns, else None. `columns`: what to load; the key among them.

    The same as `filter(...).only(...).first()`, whose SQL Django composes anew each time: that costs four times as much
    as asking the database (bench/messages.py).
    """
    rows = model._default_manager.raw(_sql(model, columns, tuple(values)), list(values.values()))
    return next(iter(rows), None)


@lru_cache(100)
def _sql(model: type[Model], columns: tuple[str, ...], names: tuple[str, ...]) -> str:
    key, where = model._meta.pk.column, " AND ".join(f"{name} = %s" for name in names)
    return f"SELECT {', '.join(columns)} FROM {model._meta.db_table} WHERE {where} ORDER BY {key} LIMIT 1"  # noqa: S608
