"""Finding rows by their keys, for the few lookups that every request of the API and every message makes.

The same as Django's `filter(...)`, which composes its SQL anew each time: that costs four times as much as asking the
database (bench/messages.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from functools import lru_cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Field, Model

M = TypeVar("M", bound=Model)


def lookup(model: type[M], /, **values: str | int) -> M | None:
    """Return the first row with these values in these columns, else None."""
    where = " AND ".join(f"{name} = %s" for name in values)
    return next(iter(select(model, f"WHERE {where} ORDER BY id LIMIT 1", list(values.values()))), None)


def lookup_all(model: type[M], /, **values: list[Any]) -> list[M]:
    """Return the rows whose columns have any of these values, by key. For no value there is none."""
    return lookup_any(model, values)


def lookup_any(model: type[M], /, *keys: Mapping[str, list[Any]]) -> list[M]:
    """Return the rows that `lookup_all` finds with any of these, by key."""
    chosen = [values for values in keys if all(values.values())]
    if not chosen:
        return []
    wheres = [" AND ".join(f"{name} IN {places(each)}" for name, each in values.items()) for values in chosen]
    # A union, since each has an index of its own.
    which = "WHERE " + f" UNION {_composed(model)[0]}WHERE ".join(wheres)
    # Sorted here: told to sort, MariaDB reads a whole young table by its key rather than the index that finds the rows.
    rows = select(model, which, [value for values in chosen for each in values.values() for value in each])
    return sorted(rows, key=lambda row: row.pk)


def places(values: Sized) -> str:
    """Return the places for a list of parameters in a statement."""
    return f"({', '.join(['%s'] * len(values))})"


def select(model: type[M], which: str, parameters: list[Any]) -> list[M]:
    """Return the rows that the rest of a SELECT finds."""
    sql, names, converters = _composed(model)
    return [_made(model, names, converters, row) for row in _fetched(sql + which, parameters)]


def select_joined(
    wanted: Mapping[type[Model], tuple[str, ...]], which: str, parameters: list[Any]
) -> list[tuple[Model | None, ...]]:
    """Return what the rest of a SELECT finds, from its FROM on: a row of each model, None where an outer join found
    none. Loaded are these columns, the key among them, and the rest where it is asked for; with none named, all.
    """
    parts = [(model, *_columns(model, columns)) for model, columns in wanted.items()]
    rows = _fetched(f"SELECT {', '.join(named for _model, named, _names, _converters in parts)} {which}", parameters)
    found = []
    for row in rows:
        begin, made = 0, []
        for model, _named, names, converters in parts:
            own, begin = row[begin : begin + len(names)], begin + len(names)
            key = own[names.index(model._meta.pk.attname)]
            made.append(None if key is None else _made(model, names, converters, own))
        found.append(tuple(made))
    return found


def _fetched(sql: str, parameters: list[Any]) -> list[list[Any]]:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:  # `connection` looks it up for each attribute
        cursor.execute(sql, parameters)
        return [list(row) for row in cursor.fetchall()]


def _made(model: type[M], names: list[str], converters: list[tuple[int, Any, Any]], row: list[Any]) -> M:
    database = connections[DEFAULT_DB_ALIAS]
    for position, convert, field in converters:
        row[position] = convert(row[position], field, database)
    return model.from_db(DEFAULT_DB_ALIAS, names, row)


@lru_cache(100)
def _composed(model: type[Model]) -> tuple[str, list[str], list[tuple[int, Any, Any]]]:
    named, names, converters = _columns(model, ())
    return f"SELECT {named} FROM {model._meta.db_table} ", names, converters  # noqa: S608


@lru_cache(100)
def _columns(model: type[Model], columns: tuple[str, ...]) -> tuple[str, list[str], list[tuple[int, Any, Any]]]:
    quote, table = connection.ops.quote_name, model._meta.db_table
    fields: list[Field[Any, Any]] = [f for f in model._meta.concrete_fields if not columns or f.column in columns]
    converters = []
    for position, field in enumerate(fields):
        expression = field.get_col(table)
        for convert in (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection)):
            converters.append((position, convert, expression))
    named = ", ".join(f"{quote(table)}.{quote(str(f.column))}" for f in fields)
    return named, [f.attname for f in fields], converters
