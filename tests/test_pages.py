"""What shows no page does without the admin."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.installation import ROOT

PROGRAMS = ["run_session_host", "run_dispatcher", "qcluster"]
_ASK = """
import json, sys
import django
django.setup()
loaded = [name for name in ("messaging.admin", "unfold.admin", "twisted", "waserver.urls") if name in sys.modules]
from django.urls import reverse
print(json.dumps([loaded, reverse("admin:monitoring_incident_changelist")]))
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_without_pages_knows_their_addresses_once_it_needs_one(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", _ASK, program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], "/admin/monitoring/incident/"]


def test_every_other_command_has_the_admin_from_the_start() -> None:
    done = subprocess.run([sys.executable, "-c", _ASK, "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, _where = json.loads(done.stdout)
    assert "messaging.admin" in loaded
