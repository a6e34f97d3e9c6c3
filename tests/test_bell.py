"""Who writes what a loop may look for rings, and nobody else; whoever hears is woken."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts import bell
from accounts.models import Account, ApiKey, Scope
from messaging.courier import clerk, courier
from messaging.dispatcher import Dispatcher
from messaging.models import DispatcherLease
from monitoring.health import health
from sessions_app.host import host
from sessions_app.jobs import run
from sessions_app.models import Host, Session
from tests.installation import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases have no bell"),
]


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return what grows whenever somebody rings."""
    rings: list[bool] = []

    def utime(_file: Path) -> None:
        rings.append(connection.in_atomic_block)

    monkeypatch.setattr(bell.os, "utime", utime)  # type: ignore[attr-defined]
    return rings


def write(label: str) -> None:
    Account.objects.update(label=label)


def test_what_is_written_rings_once_it_is_committed(rung: list[bool]) -> None:
    write("alone")
    assert rung == [False]
    with transaction.atomic():
        write("first")
        with transaction.atomic():
            write("second")
        Account.objects.all().delete()
        assert rung == [False]
    assert rung == [False] * 2


def test_what_is_taken_back_does_not_ring_and_what_is_left_does(rung: list[bool]) -> None:
    with transaction.atomic():
        write("never")
        transaction.set_rollback(True)
    assert rung == []
    with transaction.atomic():
        with transaction.atomic():
            write("not this one")
            transaction.set_rollback(True)
        write("this one")
    assert rung == [False]


def test_reading_and_what_no_loop_looks_for_do_not_ring(rung: list[bool]) -> None:
    _key, secret = ApiKey.make("rings not", list(Scope))
    list(Account.objects.all())
    now = timezone.now()
    health(now)
    run("live_back")
    assert DispatcherLease.hold("me", now)
    assert DispatcherLease.hold("me", now + timedelta(seconds=5))
    Host.objects.create(name="host-1", heartbeat_at=now)
    with bell.silently():
        Session.objects.update(lease_expires_at=now)
    assert rung == []


def test_no_loop_looks_into_a_table_that_rings_nothing() -> None:
    questions = [host._QUESTION, courier._QUESTION, *(step.question for step in Dispatcher()._steps)]
    questions += [text for name, text in vars(clerk).items() if isinstance(text, str) and "SELECT" in text]
    tables = set(re.findall(r"(?:FROM|JOIN) (\w+)", " ".join(questions)))
    assert {"sessions_app_session", "sessions_app_sessioncommand", "messaging_message", "messaging_media"} <= tables
    assert not [table for table in tables if table.startswith(bell.SILENT)]


def test_a_bell_that_somebody_deletes_is_put_up_again() -> None:
    wake = threading.Event()
    assert bell.hear(wake)
    file = bell._file(connection)
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    wait_for(file.exists)
    # The one that was put up tells of itself.
    wait_for(lambda: _woken_by_a_write(wake), 20)


def _woken_by_a_write(wake: threading.Event) -> bool:
    wake.clear()
    Account.objects.create(label=f"Account {Account.objects.count()}")
    return wake.wait(1)
