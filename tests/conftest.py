"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from tests.database import Database
from tests.installation import installation, sim

__all__ = ["installation", "sim"]


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Pages rendered inside a test name static files as they are: nothing has been collected."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    """A test that asked for another language leaves it active on its thread."""
    with translation.override("en"):
        yield


@pytest.fixture
def another_database(tmp_path: Path) -> Iterator[Database]:
    """A database that is not the run's own, and empty."""
    database = Database(tmp_path)
    yield database
    database.drop()
