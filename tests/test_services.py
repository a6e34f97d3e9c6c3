"""What `make test-services` leaves out."""

from __future__ import annotations

import re

import pytest

from tests.installation import ROOT
from tests.services import APART


@pytest.mark.parametrize("name", APART)
def test_what_is_left_out_uses_no_service(name: str) -> None:
    text = (ROOT / "tests" / f"test_{name}.py").read_text()
    assert re.search(r"^def test_", text, re.MULTILINE)
    assert not re.search(r"django_db|transactional_db|installation:|\bneeds_|TEST_[A-Z]+_URL", text)
