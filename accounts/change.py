"""Storing and changing rows, for what every message makes of them.

The same as Django's `create(...)` and `filter(...).update(...)`, which compose their SQL anew each time: that costs
four times as much as having the database do it (bench/messages.py). No signals are sent. `connections` and not
`connection`: that one looks the connection up again for each attribute, and each field asks for several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Field, Model

from accounts.lookup import places

M = TypeVar("M", bound=Model)


def change(model: type[Model], values: Mapping[str, Any], /, **found: Any) -> int:
    """Give the rows that are `found` these values; return their number. A list stands for any of its members."""
    shape = tuple((name, len(value) if isinstance(value, list) else 0) for name, value in found.items())
    sql, fields = _composed(model, tuple(values), shape)
    given, database = zip(fields, values.values(), strict=True), connections[DEFAULT_DB_ALIAS]
    parameters = [field.get_db_prep_save(value, database) for field, value in given]
    for value in found.values():
        parameters.extend(value if isinstance(value, list) else [value])
    with database.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def change_each(model: type[Model], values: Mapping[int, Mapping[str, Any]], /, **found: list[Any]) -> int:
    """Give each row, by its key, its values in the same columns, if it is also `found`; return how many were."""
    if not values:
        return 0
    columns = list(next(iter(values.values())))
    fields, database = _named(model), connections[DEFAULT_DB_ALIAS]
    given, parameters = [], []
    for name in columns:
        alike = [(pk, fields[name].get_db_prep_save(row[name], database)) for pk, row in values.items()]
        if all(value == alike[0][1] for _pk, value in alike):
            given.append(f"{_quoted(fields[name])} = %s")
            parameters.append(alike[0][1])
        else:
            given.append(f"{_quoted(fields[name])} = CASE id {'WHEN %s THEN %s ' * len(alike)}END")
            parameters.extend(item for pair in alike for item in pair)
    wheres = []
    for column, members in {"id": list(values), **found}.items():
        wheres.append(f"{column} IN {places(members)}")
        parameters.extend(members)
    with database.cursor() as cursor:
        cursor.execute(f"UPDATE {model._meta.db_table} SET {', '.join(given)} WHERE {' AND '.join(wheres)}", parameters)  # noqa: S608
        return int(cursor.rowcount)


def insert_all(rows: Sequence[Model], /) -> None:
    """Store new rows of one model. They do not get to know their keys. Raises IntegrityError."""
    if not rows:
        return
    (into, fields), database = _insertion(type(rows[0])), connections[DEFAULT_DB_ALIAS]
    given = [field.get_db_prep_save(field.pre_save(row, add=True), database) for row in rows for field in fields]
    with database.cursor() as cursor:
        cursor.execute(into + ", ".join([places(fields)] * len(rows)), given)


def insert(row: M) -> M:
    """Store a new row and return it, with its key. Raises IntegrityError."""
    (into, fields), database = _insertion(type(row)), connections[DEFAULT_DB_ALIAS]
    given = [field.get_db_prep_save(field.pre_save(row, add=True), database) for field in fields]
    with database.cursor() as cursor:
        cursor.execute(into + places(fields), given)
        row.pk = cursor.lastrowid
    row._state.adding, row._state.db = False, database.alias
    return row


@lru_cache(100)
def _composed(
    model: type[Model], names: tuple[str, ...], shape: tuple[tuple[str, int], ...]
) -> tuple[str, list[Field[Any, Any]]]:
    fields = [_named(model)[name] for name in names]
    given = ", ".join(f"{_quoted(field)} = %s" for field in fields)
    where = " AND ".join(f"{name} IN ({', '.join(['%s'] * many)})" if many else f"{name} = %s" for name, many in shape)
    return f"UPDATE {model._meta.db_table} SET {given} WHERE {where}", fields  # noqa: S608


@lru_cache(100)
def _insertion(model: type[Model]) -> tuple[str, list[Field[Any, Any]]]:
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    return f"INSERT INTO {model._meta.db_table} ({', '.join(map(_quoted, fields))}) VALUES ", fields  # noqa: S608


@lru_cache(100)
def _named(model: type[Model]) -> dict[str, Field[Any, Any]]:
    return {field.name: field for field in model._meta.concrete_fields}


def _quoted(field: Field[Any, Any]) -> str:
    return connections[DEFAULT_DB_ALIAS].ops.quote_name(str(field.column))
