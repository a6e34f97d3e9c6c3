"""Writing many rows of which some may be there already, on every database we speak to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, models


def upsert(model: type[models.Model], rows: Sequence[Any], key: Sequence[str], values: Sequence[str]) -> None:
    """Write the rows; where one with the same `key` is there, give it these `values`."""
    # MySQL and MariaDB take any unique key that collides, and no list of columns.
    target = key if connection.features.supports_update_conflicts_with_target else None
    model._default_manager.bulk_create(
        rows, batch_size=200, update_conflicts=True, unique_fields=target, update_fields=values
    )
