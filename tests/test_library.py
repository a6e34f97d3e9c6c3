"""How the client library is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.installation import ROOT

#: Loads it and prints the timer slack, in nanoseconds, of the thread that did, which those of the library inherit.
#: 30 is PR_GET_TIMERSLACK in Linux' prctl.h.
_CODE = """
import ctypes
from sessions_app.whatsapp import library
library.load()
print(ctypes.CDLL(None).prctl(30))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a timer slack")
def test_its_threads_may_wake_up_a_little_late() -> None:
    shown = subprocess.run([sys.executable, "-c", _CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-1] == "200000"
