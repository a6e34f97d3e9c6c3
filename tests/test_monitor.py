"""`manage.py monitor`: one picture of everything, and a live view that ends cleanly."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from rich.console import Console

from accounts.models import Account
from monitoring.models import HealthSample, Incident, Severity
from monitoring.terminal import clean, picture, tail
from sessions_app.models import Host, Session
from tests.installation import ROOT, Installation

pytestmark = pytest.mark.django_db


def drawn() -> str:
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - closed with the console
    with console.file:
        console.print(picture(timezone.now(), 50))
        return console.export_text()


@pytest.fixture(autouse=True)
def _logs(settings: Any, tmp_path: Path) -> None:
    settings.LOG_DIR = tmp_path


def test_an_empty_installation_is_unknown_not_well() -> None:
    text = drawn()
    assert text.count("unknown") == 8
    assert "no session host is running" in text
    assert "good" not in text


def test_it_shows_cards_hosts_sessions_incidents_and_logs(tmp_path: Path) -> None:
    now = timezone.now()
    for metric, value in (("memory_usage", 83.0), ("error_rate", 1.0), ("failed_requests", 99.0)):
        HealthSample.objects.create(metric=metric, at=now, value=value, minimum=value, maximum=value)
    HealthSample.objects.create(metric="response_time", at=now, value=0, minimum=0, maximum=0, count=0)
    HealthSample.objects.create(metric="backlog", at=now - timedelta(minutes=5), value=0, minimum=0, maximum=0)
    host = Host.objects.create(name="host-1", heartbeat_at=now, sessions=2, capacity=50, rss=200_000_000)
    Host.objects.create(name="host-2", heartbeat_at=now - timedelta(minutes=5))
    for number in range(15):
        session = Account.objects.create(label=f"Account {number:02}").session
        state = "logged_out" if number == 14 else "connected"
        Session.objects.filter(pk=session.pk).update(
            state=state, lease_expires_at=now + timedelta(minutes=1), host=host, connected_at=now
        )
    Incident.open("memory_usage", "system", "", "", "Memory is at 83 %", Severity.WARNING, now - timedelta(hours=2), {})
    (tmp_path / "web.log").write_text('{"timestamp": "2026-11-24T20:00:01Z", "level": "info", "event": "second"}\n')
    (tmp_path / "cluster.log").write_text("2026-11-24 20:00:00,1 INFO x: first\n\x1b[2Jevil\n")
    text = drawn()
    for words in ("83 %", "warning", "99 per hour", "critical", "good", "nothing to measure",
                  "host-1 2/50, 200 MB", "host-2 is silent",
                  "14 connected, 1 logged out", "and 3 more", "Incidents: 1 open", "2 h", "Memory is at 83 %",
                  "web: 20:00:01 info second", "cluster: 2026-11-24 20:00:00,1 INFO x: first"):  # fmt: skip
        assert words in text, words
    assert "\x1b" not in text
    assert text.index("Account 14") < text.index("Account 00")  # the worst first


def test_names_and_logs_cannot_steer_a_terminal() -> None:
    assert clean("a\x1b]0;x\x07b\x9b2J\tc\n\u202ed") == "a]0;xb2J c d"


def test_the_log_of_many_files_is_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("2026-11-24 20:00:03 3\n2026-11-24 20:00:01 never mind\n")
    (tmp_path / "b.log").write_text("2026-11-24 20:00:02 2\nno time\n")
    (tmp_path / "c.log").write_bytes(b"\xff\xfe" + b"x" * 10_000 + b"\n2026-11-24 20:00:04 4\n")
    lines = [line for _program, line in tail(tmp_path, 10)]
    timed = [line[-1] for line in lines if line.startswith("2026-11-24 20:00:0")]
    assert timed.index("2") < timed.index("3") < timed.index("4")
    assert len(tail(tmp_path, 2)) == 2
    assert tail(tmp_path / "nowhere", 5) == []


def test_once_prints_a_picture_and_a_script_is_told_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("monitor", "--once")
    assert "Memory" in capsys.readouterr().out
    with pytest.raises(CommandError, match="monitor --once"):
        call_command("monitor")
    with pytest.raises(CommandError, match="between 0.2 and 3600"):
        call_command("monitor", "--interval", "0")


@pytest.mark.django_db(transaction=True)
def test_the_live_view_refreshes_and_ends_on_ctrl_c(installation: Installation) -> None:
    master, slave = pty.openpty()
    environment = {**installation.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    process = subprocess.Popen([sys.executable, "manage.py", "monitor", "--interval", "0.3"], cwd=ROOT, env=environment,
                               stdin=slave, stdout=slave, stderr=slave)  # fmt: skip
    os.close(slave)
    try:
        seen = read_until(master, b"", lambda text: text.count(b"waserver \xc2\xb7") >= 3)
        process.send_signal(signal.SIGINT)
        rest = read_until(master, b"", lambda text: b"\x1b[?1049l" in text)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"\x1b[?1049h" in seen  # a screen of its own, given back at the end
    assert b"Traceback" not in seen + rest


def read_until(file: int, seen: bytes, enough: Any, seconds: float = 30) -> bytes:
    until = time.monotonic() + seconds
    while not enough(seen) and time.monotonic() < until:
        try:
            seen += os.read(file, 65536)
        except OSError:  # its other end is closed
            break
    assert enough(seen), seen[-2000:]
    return seen
