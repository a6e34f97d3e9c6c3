"""What the garbage collector leaves alone, and when it collects."""

from __future__ import annotations

import subprocess
import sys

from tests.installation import ROOT

_FORKS = """
import gc, os
from accounts import garbage
garbage.settle_before_forks()
before = gc.get_freeze_count()
kept = [[] for _ in range(1000)]
counts = []
for _ in range(2):
    out, into = os.pipe()
    if os.fork() == 0:
        os.write(into, str(gc.get_freeze_count()).encode())
        os._exit(0)
    os.wait()
    counts.append(int(os.read(out, 20)))
    later = [[] for _ in range(1000)]
print(before, counts[0] > 1000, counts[0] == counts[1])
"""

_RESTS = """
import threading, weakref
from accounts import garbage
garbage.EVERY = 0.05
garbage.settle()
class Cycle: pass
one = Cycle()
one.itself, gone = one, threading.Event()
weakref.finalize(one, gone.set)
del one
print(gone.wait(20))
"""


def test_what_is_there_at_the_first_fork_is_left_out_of_collections() -> None:
    done = subprocess.run([sys.executable, "-c", _FORKS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]


def test_a_program_that_does_nothing_collects_too() -> None:
    done = subprocess.run([sys.executable, "-c", _RESTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
