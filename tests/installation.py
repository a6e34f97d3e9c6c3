"""An installation under test: real processes (host, web, cluster) on the test's database, led to the simulator."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from sessions_app.models import Host, Session
from tests.machine import Machine
from tests.wasim import Wasim
from tests.wasim.clone import clone_device

ROOT = Path(__file__).parents[1]
T = TypeVar("T")

#: Everything the retry policy waits for is this much shorter.
SCALE = 0.1
_PATIENCE = 3


def wait_for(what: Callable[[], T], seconds: float = 45, but: Callable[[], object] = lambda: "") -> T:
    """Return the first true value of `what`; fail the test, saying `but()`, when it does not come.

    `seconds` is plenty for a machine that does nothing else; one that does gets _PATIENCE times as long.
    """
    seconds *= _PATIENCE
    until = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > until:
            pytest.fail(f"it did not happen in {seconds:.0f} s: {but()}")
        time.sleep(0.03)
    return value


class Program:
    """One process of the installation, with its log."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.pid = self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def running(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM; return the exit code. Fails the test when it takes longer; as for `wait_for`."""
        seconds *= _PATIENCE
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            pytest.fail(f"{self.name} did not end within {seconds} s of SIGTERM")


class Installation:
    """Processes share the test's database, secret key and folder of device stores."""

    def __init__(self, folder: Path, sim: Wasim | None, **environment: str) -> None:
        self.folder, self.sim = folder, sim
        self.programs: dict[str, Program] = {}
        for name in ("devices", "log", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ, **(sim.environment() if sim else {}), "VAR_DIR": str(folder), "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": _database_url(), "RETRY_TIME_SCALE": str(SCALE), "RECONNECT_GRACE": "2",
            "HOST_STARTS_PER_SECOND": "10", "COLLECT_INTERVAL": "1", **environment,
        }  # fmt: skip

    # -- processes

    def start(self, name: str, *command: str, on: Machine | None = None, **environment: str) -> Program:
        """Start `python COMMAND...`, here or on another machine."""
        program = Program(name, [*(on.command if on else ()), sys.executable, *command],
                          {**self.environment, **environment}, self.folder / "log" / f"{name}.log")  # fmt: skip
        self.programs[name] = program
        return program

    def start_host(self, name: str = "host-1", *options: str, on: Machine | None = None, **environment: str) -> Program:
        """Start a session host, here or on another machine."""
        return self.start(name, "manage.py", "run_session_host", "--name", name, *options, on=on, **environment)

    def start_web(self, wait: bool = True) -> str:
        """Start the web process; return its address once it answers, or at once."""
        port = free_port()
        self.start("web", "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "waserver.asgi:application")
        address = f"http://127.0.0.1:{port}"
        if wait:
            wait_for(lambda: answers(f"{address}/admin/login/"), 30, self.log("web"))
        return address

    def manage(self, *command: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip

    def log(self, name: str) -> Callable[[], str]:
        """Return what reads the end of a program's log."""
        return lambda: self.programs[name].log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End what still runs."""
        for program in self.programs.values():
            if program.running():
                program.send(signal.SIGCONT)
                children = psutil.Process(program.pid).children(recursive=True)
                program.kill()
                for child in children:  # a killed cluster leaves its workers behind
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()

    # -- accounts and sessions

    def paired(self, label: str, phone: str) -> Session:
        """Return the session of a new account whose device store is already paired with `phone`. Not started."""
        assert self.sim is not None
        store = f"{uuid.uuid4().hex}.sqlite3"
        clone_device(self.sim, template_store(self.sim), self.folder / "devices" / store, phone)
        session: Session = Account.objects.create(label=label, phone=phone).session
        Session.objects.filter(pk=session.pk).update(
            store=store, state="stopped", paired_at=timezone.now(), due_at=timezone.now()
        )
        return fresh(session)

    def until(self, session: Session, state: str, seconds: float = 60, **fields: Any) -> Session:
        """Return the row once it is in `state` with these fields."""

        def there() -> Session | None:
            row = fresh(session)
            fits = row.state == state and all(getattr(row, name) == value for name, value in fields.items())
            return row if fits else None

        def instead() -> str:
            row = fresh(session)
            logs = "".join(self.log(name)() for name in self.programs)
            return f"{row.state} ({row.reason}, {row.code}, {row.detail}), wanted {state} {fields}\n{logs}"

        row = wait_for(there, seconds, instead)
        assert row is not None
        return row

    def until_all(self, sessions: list[Session], state: str, seconds: float = 60) -> None:
        """Wait until all are in `state`."""
        ids = [session.pk for session in sessions]

        def states() -> dict[str, int]:
            found: dict[str, int] = {}
            for one in Session.objects.filter(pk__in=ids).values_list("state", flat=True):
                found[one] = found.get(one, 0) + 1
            return found

        wait_for(lambda: states() == {state: len(ids)}, seconds, states)


def fresh(session: Session) -> Session:
    """Return the row as it is now."""
    return Session.objects.select_related("account", "host").get(pk=session.pk)


def live_host(name: str = "host-1") -> Host | None:
    """Return a host that is registered and alive."""
    return Host.objects.live(timezone.now()).filter(name=name).first()


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(url: str) -> bool:
    """Return whether an address answers, with whatever status."""
    with contextlib.suppress(OSError):
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return True
        except urllib.error.HTTPError:
            return True
    return False


def template_store(sim: Wasim) -> Path:
    """Return a store paired once with this simulator, to be cloned."""
    from sessions_app.whatsapp.client import Kind
    from tests.contract_real import RealSide

    folder = Path(sim.environment()["WHATSAPP_LIBRARY"]).parent
    store = folder / "template.sqlite3"
    if not store.exists():
        side = RealSide(folder, sim)
        pairing = side.pair()
        sim.phone("4915199999999").scan(pairing.seen.wait(Kind.QR).detail["text"])
        pairing.seen.wait(Kind.PAIRED)
        pairing.ask("keep")
        side.close()
        Path(pairing.store).rename(store)
    return store


def _database_url() -> str:
    chosen = connection.settings_dict
    if chosen["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{chosen['NAME']}"
    user, password = chosen["USER"], chosen["PASSWORD"]
    credentials = f"{user}:{password}@" if password else f"{user}@"
    return f"mysql://{credentials}{chosen['HOST']}:{chosen['PORT'] or 3306}/{chosen['NAME']}"


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wasim]:
    """One simulator for the run; tests use numbers of their own and take their faults back."""
    logging.getLogger("websockets").setLevel(logging.WARNING)
    with Wasim(tmp_path_factory.mktemp("wasim")) as sim:
        yield sim


@pytest.fixture
def installation(
    sim: Wasim, transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """An installation without processes yet."""
    monkeypatch.setattr(settings, "DEVICES_DIR", tmp_path / "devices")
    monkeypatch.setattr(settings, "LOG_DIR", tmp_path / "log")
    installation = Installation(tmp_path, sim)
    yield installation
    installation.close()
    sim.faults.break_network("")
