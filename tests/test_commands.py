"""The commands: what they print, and their exit codes; bad input is one sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts.models import Account
from sessions_app.models import Session, SessionCommand
from tests.database import Database
from tests.installation import ROOT, Installation, answers, free_port, fresh, wait_for
from tests.wasim import Wasim
from waserver.processes import still_running


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env={**os.environ, **environment}, capture_output=True,
        text=True, timeout=180, check=False,
    )  # fmt: skip


def is_one_sentence(answer: subprocess.CompletedProcess[str]) -> bool:
    return answer.returncode != 0 and "Traceback" not in answer.stderr and len(answer.stderr.strip().splitlines()) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Second", "--phone", "12"], "not a phone number"),
        (["Second", "--phone", "0812-0000-0001"], "already belongs to the account “First”"),
        (["Second", "--proxy", "ftp://x"], "not a proxy URL"),
        (["First"], "already exists"),
    ],
)
def test_a_wrong_account_is_refused_with_a_sentence_and_no_row(arguments: list[str], words: str) -> None:
    call_command("accounts", "add", "First", "--phone", "+62 812 0000 0001")
    with pytest.raises(CommandError, match=words):
        call_command("accounts", "add", *arguments)
    assert Account.objects.count() == 1
    assert Account.objects.get().phone == "6281200000001"


@pytest.mark.django_db
def test_unknown_ids_and_unpaired_sessions_are_refused() -> None:
    session = Account.objects.create(label="First").session
    for what in ("show", "start", "stop", "restart", "pair", "logout"):
        with pytest.raises(CommandError, match="There is no session “9999”"):
            call_command("sessions", what, "9999", *(["--yes"] if what == "logout" else []))
    with pytest.raises(CommandError, match="is not paired"):
        call_command("sessions", "start", "First")
    with pytest.raises(CommandError, match="no session host is running"):
        call_command("sessions", "pair", str(session.pk))
    with pytest.raises(CommandError, match="--yes"):
        call_command("sessions", "logout", "First")
    assert SessionCommand.objects.count() == 1


@pytest.mark.django_db
def test_a_proxy_is_stored_encrypted_and_shown_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    from django.db import connection

    call_command("accounts", "add", "First", "--proxy", "http://user:hidden@proxy.example:8080", "--json")
    printed = capsys.readouterr().out
    assert json.loads(printed)["proxy"] == "http://•••@proxy.example:8080"
    with connection.cursor() as cursor:
        cursor.execute("SELECT proxy FROM accounts_account")
        assert "hidden" not in cursor.fetchone()[0]


def test_a_database_that_is_not_migrated_is_one_sentence(tmp_path: Path, another_database: Database) -> None:
    for command in (["accounts", "list"], ["sessions", "list"], ["run_session_host"]):
        answer = run(*command, VAR_DIR=str(tmp_path), DATABASE_URL=another_database.url)
        assert is_one_sentence(answer), answer.stderr
        assert "migrate" in answer.stderr


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = run("accounts", "list", VAR_DIR=str(tmp_path / "file"))
    assert is_one_sentence(answer), answer.stderr
    assert "set VAR_DIR" in answer.stderr


def test_a_missing_library_is_one_sentence(tmp_path: Path) -> None:
    for command in (["run_session_host"], ["server", "setup"]):
        answer = run(*command, VAR_DIR=str(tmp_path), WHATSAPP_LIBRARY=str(tmp_path / "nowhere.so"))
        assert is_one_sentence(answer), answer.stderr
        assert "nowhere.so is missing" in answer.stderr


def test_a_port_in_use_is_one_sentence_that_names_the_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = run("server", "run", VAR_DIR=str(tmp_path), PORT=str(port))
    assert is_one_sentence(answer), answer.stderr
    assert f"Port {port}" in answer.stderr
    assert f"process {os.getpid()}" in answer.stderr


def test_the_server_starts_tells_the_password_once_and_ends_with_all_its_children(
    tmp_path: Path, another_database: Database
) -> None:
    port = free_port()
    environment = {**os.environ, "VAR_DIR": str(tmp_path / "with space %"), "PORT": str(port)}
    if another_database.url.startswith("mysql"):
        environment["DATABASE_URL"] = another_database.url

    def start(log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen([sys.executable, "manage.py", "server", "run"], cwd=ROOT, env=environment,
                                    stdout=out, stderr=out)  # fmt: skip

    def family() -> list[psutil.Process]:
        return psutil.Process(server.pid).children(recursive=True)

    server = start(tmp_path / "first")
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/admin/login/"), 60, (tmp_path / "first").read_text)
        wait_for(lambda: len(family()) >= 6, 30)
        second = run("server", "run", VAR_DIR=environment["VAR_DIR"], PORT=str(free_port()))
        assert is_one_sentence(second), second.stderr
        assert "already runs" in second.stderr
        children = family()
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        assert not still_running(children, 5)
    finally:
        server.kill()
    assert "password: " in (tmp_path / "first").read_text()

    server = start(tmp_path / "again")
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/admin/login/"), 60)
        server.terminate()
        assert server.wait(20) == 0
    finally:
        server.kill()
    assert "password" not in (tmp_path / "again").read_text()


@pytest.mark.real
def test_pairing_and_control_from_the_terminal(installation: Installation, sim: Wasim) -> None:
    phone = "6281200000901"
    assert installation.manage("accounts", "add", "Terminal").returncode == 0
    session = Session.objects.get()
    installation.start_host()
    from tests.installation import live_host

    wait_for(live_host, 20, installation.log("host-1"))
    assert psutil.Process(installation.programs["host-1"].pid).nice() > os.nice(0)  # pages come first
    sim.faults.break_network("refused")
    answer = installation.manage("sessions", "pair", "Terminal")
    assert is_one_sentence(answer), answer.stderr
    assert "WhatsApp could not be reached" in answer.stderr
    assert "Check the internet connection and the proxy" in answer.stderr
    sim.faults.break_network("")
    pairing = installation.start("pair", "manage.py", "sessions", "pair", "Terminal")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 20, installation.log("pair"))
    assert row
    shown = json.loads(installation.manage("sessions", "show", "Terminal", "--json").stdout)
    assert (shown["state"], shown["qr"], shown["host"]) == ("pairing", row.qr_text, "host-1")
    time.sleep(0.5)
    sim.phone(phone).scan(row.qr_text)
    wait_for(lambda: not pairing.running(), 20)
    assert pairing.stop() == 0
    assert "▄" in pairing.log.read_text() or "█" in pairing.log.read_text()
    ends = {"stop": "stopped", "start": "connected", "restart": "connected", "logout": "logged_out"}
    for what, state in ends.items():
        answer = installation.manage("sessions", what, "Terminal", "--json", *(["--yes"] if what == "logout" else []))
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["state"] == state
    listed = json.loads(installation.manage("sessions", "list", "--json").stdout)
    assert [one["account"] for one in listed] == ["Terminal"]
