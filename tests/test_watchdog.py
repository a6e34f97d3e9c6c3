"""The host's fence, in a process of its own: it ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from sessions_app.host.watchdog import EXIT_CODE

_HOST = """
import sys, time
from sessions_app.host.watchdog import Watchdog, clock
watchdog = Watchdog()
watchdog.extend(clock() + {first})
watchdog.start()
print("watched", flush=True)
{then}
sys.stdin.read()
"""


def started(first: float, then: str = "") -> subprocess.Popen[str]:
    """Start a process that is watched, and does this."""
    program = _HOST.format(first=first, then=then)
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "watched\n"
    return process


def ended(process: subprocess.Popen[str], seconds: float = 20) -> int:
    """Return its exit code; kill it when it does not end by itself."""
    with process:
        try:
            return process.wait(seconds)
        finally:
            process.kill()


def lives(process: subprocess.Popen[str]) -> None:
    """Fail when it ended before it said so."""
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == "lives\n"


def test_a_process_whose_deadline_passes_ends() -> None:
    assert ended(started(0.3)) == EXIT_CODE


@pytest.mark.parametrize("deadline", [0.0, -5.0], ids=["now", "past"])
def test_a_deadline_that_has_passed_counts(deadline: float) -> None:
    assert ended(started(30, f"watchdog.extend(clock() + {deadline})")) == EXIT_CODE


def test_a_deadline_that_has_passed_is_not_put_off_any_more() -> None:
    """As after a pause, when the thread that renews runs before the one that watches: here that one never runs."""
    late = "late = Watchdog()\nlate.extend(clock() + 0.1)\ntime.sleep(0.3)\nlate.extend(clock() + 30)"
    assert ended(started(30, late)) == EXIT_CODE


def test_a_later_deadline_replaces_an_earlier_one() -> None:
    lives(started(0.6, "watchdog.extend(clock() + 30)\ntime.sleep(1.5)\nprint('lives', flush=True)"))


def test_a_process_without_leases_is_not_ended() -> None:
    lives(started(0.6, "watchdog.end()\ntime.sleep(1.5)\nprint('lives', flush=True)"))


def test_a_process_that_was_paused_ends_when_it_goes_on() -> None:
    process = started(1)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.5)  # its deadline passes meanwhile
    assert process.poll() is None
    os.kill(process.pid, signal.SIGCONT)
    assert ended(process) == EXIT_CODE
