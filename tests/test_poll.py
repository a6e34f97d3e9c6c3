"""When a loop looks again."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from accounts.models import Account
from accounts.poll import Poll

pytestmark = pytest.mark.django_db(transaction=True)


def elsewhere() -> None:
    """Write on a connection of its own."""

    def write() -> None:
        Account.objects.create(label=f"Account {Account.objects.count()}")
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def test_a_loop_looks_when_another_connection_has_written_and_after_a_while() -> None:
    poll = Poll()
    assert poll.due(1000)
    assert poll.due(1000) == (connection.vendor != "sqlite")  # others do not tell: it is always time
    elsewhere()
    assert poll.due(1000)
    assert poll.due(0)
