"""How a loop waits until there may be something new."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection

from accounts.models import Account
from accounts.poll import Poll

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds nobody waits in a test that passes.
LONG = 20.0


def elsewhere() -> None:
    """Write on a connection of its own."""

    def write() -> None:
        Account.objects.create(label=f"Account {Account.objects.count()}")
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def rest(poll: Poll) -> None:
    """Wait until what was written before this test has been told."""
    while poll.wait(0.3):
        pass


def test_a_loop_is_woken_by_a_write_of_somebody_else_or_looks_again_where_nobody_tells() -> None:
    told = connection.vendor == "sqlite"
    poll = Poll(threading.Event(), 0.05)
    rest(poll)
    for _ in range(3):
        began = time.monotonic()
        elsewhere()
        assert poll.wait(LONG) == told
        assert time.monotonic() - began < LONG
        rest(poll)


def test_a_loop_is_woken_by_its_own_process_and_after_a_while() -> None:
    wake = threading.Event()
    poll = Poll(wake, LONG)
    rest(poll)
    wake.set()
    assert poll.wait(LONG)
    assert not poll.wait(0.01)
