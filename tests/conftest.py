"""Fixtures every test may use."""

from __future__ import annotations

from typing import Any

import pytest

from tests.installation import installation, sim

__all__ = ["installation", "sim"]


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Pages rendered inside a test name static files as they are: nothing has been collected."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
