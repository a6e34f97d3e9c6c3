"""Fixtures every test may use."""

from __future__ import annotations

from tests.installation import installation, sim

__all__ = ["installation", "sim"]
