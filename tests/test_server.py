"""`manage.py server` with real processes: start, look, kill, stop; each awkward beginning is handled and explained."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone

from monitoring.models import Program
from sessions_app.models import Host
from tests.installation import Installation, answers, free_port, wait_for
from waserver import processes


class Server:
    """An installation under `manage.py server`."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.port = installation, free_port()
        installation.environment["PORT"] = str(self.port)
        self.run_folder = installation.folder / "run"

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.installation.manage("server", *command, seconds=120)

    def says(self, *command: str) -> str:
        answer = self(*command)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def refuses(self, *command: str, code: int = 1) -> str:
        answer = self(*command)
        assert answer.returncode == code, answer.stdout + answer.stderr
        assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
        return answer.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        return {line["name"]: line for line in json.loads(self.says("status", "--json"))}

    def is_up(self, name: str) -> bool:
        if name == "web":
            return answers(f"http://127.0.0.1:{self.port}/admin/login/")
        if name == "host-1":
            return Host.objects.live(timezone.now()).filter(name=name, pid=self.pid(name)).exists()
        if name == "guard":
            pid = self.pid(name)
            return bool(pid) and time.time() - psutil.Process(pid).create_time() > 1
        return bool(self.pid(name))

    def pid(self, name: str) -> int:
        """Return its process id, 0 for none. Of guard and cluster by their command lines: status leaves guard out."""
        part = {"web": "waserver.asgi:application", "cluster": "qcluster", "host-1": "run_session_host",
                "dispatcher": "run_dispatcher", "guard": "waserver.guard"}.get(name)  # fmt: skip
        if part is None:
            found = processes.supervisor(self.run_folder / "supervisord.pid")
            return found.pid if found else 0
        ours = processes.started_by(f"unix://{self.socket}")
        for one in ours:
            with contextlib.suppress(psutil.Error, ProcessLookupError):  # it has ended meanwhile
                if os.getpgid(one.pid) == one.pid and part in one.cmdline():
                    return one.pid
        return 0

    def kill_and_wait(self, name: str) -> None:
        """kill -9, and wait until it does its work again."""
        wait_for(lambda: self.is_up(name), 30)
        pid, began = self.pid(name), time.monotonic()
        psutil.Process(pid).kill()
        wait_for(lambda: self.pid(name) not in (0, pid) and self.is_up(name), 30,
                 lambda: (name, pid, self.pid(name), self("status").stdout, self.log_ends()))  # fmt: skip
        print(f"{name}: back {time.monotonic() - began:.1f} s after kill -9")

    def log_ends(self) -> str:
        """Return the ends of all logs, for a failed test."""
        logs = sorted((self.run_folder.parent / "log").glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    @property
    def socket(self) -> str:
        lines = (self.run_folder / "supervisord.conf").read_text().splitlines()
        return next(line.removeprefix("file=") for line in lines if line.startswith("file=")).replace("%%", "%")


@pytest.fixture
def server(installation: Installation) -> Iterator[Server]:
    server = Server(installation)
    yield server
    server("stop")


@pytest.mark.slow
def test_a_server_in_the_background_from_start_to_stop(server: Server) -> None:
    server.installation.environment["HOST_REGION"] = "Jakarta"
    assert f"http://127.0.0.1:{server.port}/" in server.says("start")
    assert "already runs here" in server.refuses("start")
    assert "already runs here" in server.refuses("run")
    assert "There is no program “nginx” here: cluster, dispatcher, host-1, web" in server.refuses("restart", "nginx")
    wait_for(lambda: server.is_up("host-1"), 30)
    before = server.status()
    assert set(before) == {"supervisord", "web", "cluster", "dispatcher", "host-1"}
    assert [before["host-1"][what] for what in ("sessions", "connected", "region")] == [0, 0, "Jakarta"]
    assert "0 of 0 connected, region Jakarta" in server.says("status")
    assert all(line["memory"] > 5_000_000 and line["crashes"] == 0 for line in before.values())
    assert "restarted" in server.says("restart", "host-1")
    after = server.status()["host-1"]
    assert (after["restarts"], after["crashes"], after["state"]) == (1, 0, "running")
    assert after["pid"] != before["host-1"]["pid"]
    wait_for(lambda: Program.objects.filter(name="host-1", restarts=1, state="running").exists(), 30)

    for name in ("web", "cluster", "dispatcher", "host-1", "guard", "supervisord"):  # the last takes all others along
        server.kill_and_wait(name)
    killed = {"web", "cluster", "dispatcher", "host-1", "supervisord"}
    wait_for(lambda: killed <= set(Program.objects.exclude(last_crash_at=None).values_list("name", flat=True)), 40,
             lambda: list(Program.objects.values()))  # fmt: skip
    wait_for(lambda: server.is_up("web"), 30)
    lines = server.status()
    assert all(lines[name]["crashes"] == 1 for name in ("web", "cluster", "host-1", "supervisord")), lines
    assert lines["web"]["last_exit"] == "terminated by SIGKILL"
    assert "kill" in Program.objects.get(name="supervisord").last_exit

    family = psutil.Process(server.pid("supervisord")).children(recursive=True)
    began = time.monotonic()
    assert "Stopped after" in server.says("stop")
    assert time.monotonic() - began < 35
    assert not processes.still_running(family)
    assert set(Program.objects.values_list("state", flat=True)) == {"stopped"}
    assert "was not running" in server.says("stop")
    assert "is not running" in server.refuses("status", code=2)


@pytest.mark.slow
def test_a_server_in_the_foreground_is_restarted_and_recovered_without_ending(server: Server) -> None:
    foreground = server.installation.start("monitor", "manage.py", "server", "monitor")
    wait_for(lambda: answers(f"http://127.0.0.1:{server.port}/admin/login/"), 60, foreground.log.read_text)
    for command in (["server", "restart"], ["recover", "--yes"]):
        wait_for(lambda: server.is_up("host-1"), 60, server.log_ends)
        before = [server.pid(name) for name in ("supervisord", "web", "cluster", "host-1")]
        answer = server.installation.manage(*command, seconds=120)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        after = [server.pid(name) for name in ("supervisord", "web", "cluster", "host-1")]
        assert after[0] == before[0]
        assert not set(after[1:]) & set(before)
    wait_for(lambda: server("health").returncode == 0, 60, lambda: server("health").stdout)
    psutil.Process(server.pid("supervisord")).kill()
    wait_for(lambda: server.is_up("web") and server.pid("supervisord") not in (0, before[0]), 60, server.log_ends)
    assert "everything is started again" in foreground.log.read_text()
    psutil.Process(foreground.pid).kill()  # then the tree ends by itself
    wait_for(lambda: not processes.started_by(f"unix://{server.socket}") and not server.pid("supervisord"), 40)


@pytest.mark.slow
def test_a_crash_loop_is_given_a_rest_and_shown(server: Server) -> None:
    Host.objects.create(name="host-1", machine="elsewhere", pid=1, boot="x", started_at=timezone.now(),
                        heartbeat_at=timezone.now())  # fmt: skip

    def beats() -> bool:
        """The other host-1 is alive, so ours ends again and again."""
        Host.objects.filter(name="host-1").update(heartbeat_at=timezone.now())
        return Program.objects.filter(name="host-1", state="fatal", retry_at__isnull=False).exists()

    server.says("start")
    wait_for(beats, 60, lambda: list(Program.objects.values()))
    line = server.status()["host-1"]
    assert line["state"] == "fatal"
    assert line["retry_at"]
    assert 3 <= line["crashes"] <= 5
    assert "next trial in" in server.says("status")
    assert server.pid("host-1") == 0
    assert server.is_up("web")


def test_awkward_beginnings_are_handled_and_explained(server: Server, tmp_path: Path) -> None:
    (server.run_folder / "supervisord.pid").write_text(str(os.getpid()))
    with socket.create_server(("127.0.0.1", server.port)):
        answer = server("start")
    assert f"Port {server.port} on 127.0.0.1 is in use by process {os.getpid()}" in answer.stderr
    assert f"A stale pid file was removed: process {os.getpid()} is not a supervisor" in answer.stdout
    assert not (server.run_folder / "supervisord.pid").exists()
    assert "is not running" in server.refuses("status", code=2)

    left = _left_by(server.run_folder)
    other = _left_by(tmp_path / "other")
    try:
        assert f"parts of it still run ({left.pid})" in server.refuses("status", code=2)
        with socket.create_server(("127.0.0.1", server.port)):
            answer = server("start")
        assert f"whose supervisor had died still ran ({left.pid}): they were ended first" in answer.stdout
        assert left.wait(10) != 0
        assert other.poll() is None, "another installation's process"
    finally:
        for one in (left, other):
            one.kill()
            one.communicate()


def _left_by(run_folder: Path) -> subprocess.Popen[bytes]:
    """A process such as a dead supervisor leaves running."""
    run_folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True,
        env={"SUPERVISOR_SERVER_URL": f"unix://{run_folder / 'supervisor.sock'}"},
    )  # fmt: skip
