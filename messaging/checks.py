"""Checks of the installation, run by `migrate` and `check --database default`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections


@register(Tags.database)
def characters(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for a MySQL database that cannot hold every character people write."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor != "mysql":
            continue
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database")
            (name,) = cursor.fetchone()
        if name != "utf8mb4":
            database = connection.settings_dict["NAME"]
            found.append(Error(
                f"The database {database} has the character set {name}: it could not store emoji.",
                hint=f"Before the first migrate: ALTER DATABASE `{database}` CHARACTER SET utf8mb4;",
                id="messaging.E001",
            ))  # fmt: skip
    return found
