"""`make drill`: the whole emergency, and the rolling restart, on the real library and the simulator."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from messaging.kinds import Kind as MessageKind
from messaging.models import Chat, Message
from sessions_app.explanations import explain
from sessions_app.models import Host, Session, SessionCommand, SessionEvent
from sessions_app.whatsapp.contents import Text
from tests.contract_real import RealSide
from tests.installation import Installation, fresh, wait_for
from tests.test_server import Server
from tests.wasim import Wasim
from waserver import processes

pytestmark = [pytest.mark.real, pytest.mark.slow]

_numbers = count(4_915_700_000_001)


@pytest.fixture
def server(installation: Installation) -> Iterator[Server]:
    installation.environment |= {"HOSTS": "2", "PACING": "0"}
    server = Server(installation)
    yield server
    server("stop")


@pytest.fixture
def peer(tmp_path: Path, sim: Wasim) -> Iterator[RealSide]:
    """Somebody outside, who hears what arrives."""
    (tmp_path / "peer").mkdir()
    side = RealSide(tmp_path / "peer", sim)
    yield side
    side.close()


def sessions_on(installation: Installation, number: int) -> tuple[list[Session], list[str]]:
    """Return sessions that are paired, and their numbers."""
    numbers = [str(next(_numbers)) for _ in range(number)]
    return [installation.paired(f"Account {n}", n) for n in numbers], numbers


def test_the_whole_emergency(server: Server, installation: Installation, sim: Wasim) -> None:
    sessions, numbers = sessions_on(installation, 10)
    server.says("start")
    installation.until_all(sessions, "connected", 120)

    _kill_everything(server)
    wait_for(lambda: not any(sim.device(n).live_sockets for n in numbers))
    broken, forgotten = sessions[3], sessions[6]
    _corrupt(Path(fresh(broken).store_path))
    (server.run_folder / "supervisord.pid").write_text(str(os.getpid()))
    gone = Host.objects.create(name="host-9", machine="gone", heartbeat_at=timezone.now() - timedelta(hours=1))
    Session.objects.filter(pk=forgotten.pk).update(host=gone, lease_expires_at=timezone.now() - timedelta(hours=1))
    stale = SessionCommand.objects.create(session=forgotten, verb="restart", requester="ana")

    shown = installation.manage("recover", "--dry-run", seconds=120)
    assert shown.returncode == 0, shown.stderr
    assert "9 of 10 are whole" in shown.stdout
    assert f"{broken}: damaged" in shown.stdout
    assert fresh(broken).hold == ""
    assert not server.pid("supervisord")

    began = time.monotonic()
    answer = installation.manage("recover", "--yes", seconds=300)
    took = time.monotonic() - began
    print(f"\n{answer.stdout}\nrecovered in {took:.1f} s, the command's own start included")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "9 of 9 sessions are connected again" in answer.stdout
    healthy = [session for session in sessions if session != broken]
    assert all(row.state == "connected" and row.host for row in map(fresh, healthy))
    assert [sim.device(n).live_sockets for n in numbers].count(1) == 9
    assert all(sim.most_live(n) == 1 for n in numbers), "two sockets of one device at once"
    assert not SessionEvent.objects.filter(kind__in=["pair_started", "qr"]).exists(), "somebody had to scan"

    row = fresh(broken)
    assert (row.state, row.reason, row.hold, row.host) == ("stopped", "store_damaged", "store_damaged", None)
    assert "Restore it from a backup, or pair the phone again" in explain(row, timezone.now()).what_to_do
    assert str(broken) in answer.stdout.partition("Left for a person:")[2]
    assert (installation.folder / "devices" / "quarantine" / "damaged" / row.store).is_file(), "keys are never deleted"
    stale.refresh_from_db()
    assert "recovered meanwhile" in stale.error
    assert list((installation.folder / "backups").glob("*"))
    from monitoring.models import Incident

    wait_for(lambda: Incident.objects.filter(metric="store_damaged").exists(), 120)
    health = server("health")
    assert health.returncode == 1 or "keys that cannot be used" in health.stdout, health.stdout

    again = installation.manage("recover", "session", str(healthy[0].pk), seconds=120)
    assert again.returncode == 0, again.stderr
    refused = installation.manage("recover", "session", str(broken.pk), seconds=120)
    assert refused.returncode == 1
    assert "--re-pair" in refused.stderr


def test_a_rolling_restart_loses_no_session_and_no_message(
    server: Server, installation: Installation, sim: Wasim, peer: RealSide
) -> None:
    sessions, numbers = sessions_on(installation, 20)
    server.says("start")
    installation.until_all(sessions, "connected", 180)
    boots = dict(Host.objects.values_list("name", "boot"))
    his = peer.online(ben := str(next(_numbers)))
    watch, traffic = Watch(sim, numbers), Traffic(sessions, ben)
    answer = server("restart", "--rolling")
    down, sent = watch.end(), traffic.end()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    wait_for(lambda: not Message.objects.filter(state__in=["queued", "sending", "sent"]).exists(), 120, traffic.states)
    heard = Counter(message.content.text for message in his.heard.messages if isinstance(message.content, Text))
    print(f"\n{answer.stdout}\nlongest time down of one session: {max(down.values()):.1f} s; "
          f"{len(sent)} messages meanwhile: {dict(traffic.states())}")  # fmt: skip
    assert len(sent) >= 40
    assert [text for text in sent if heard[text] != 1] == [], "lost or doubled"
    assert all(Host.objects.get(name=name).boot != boot for name, boot in boots.items())
    installation.until_all(sessions, "connected", 10)
    assert all(sim.most_live(n) == 1 for n in numbers), "two sockets of one device at once"
    assert not SessionEvent.objects.filter(code=440).exists()
    assert max(down.values()) < 5


class Traffic:
    """Every session sends something again and again."""

    def __init__(self, sessions: list[Session], to: str) -> None:
        self._chats = [Chat.objects.of(session.account, f"{to}@s.whatsapp.net") for session in sessions]
        self._sent: list[str] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._done.wait(0.2):
            text = f"message {len(self._sent)}"
            Message.queue(self._chats[len(self._sent) % len(self._chats)], MessageKind.TEXT, {"text": text})
            self._sent.append(text)
        connection.close()

    def states(self) -> Counter[str]:
        """Return how many are in which state."""
        return Counter(Message.objects.values_list("state", flat=True))

    def end(self) -> list[str]:
        """Return what was sent."""
        self._done.set()
        self._thread.join()
        return self._sent


class Watch:
    """Notes, for each number, the longest time without a socket."""

    def __init__(self, sim: Wasim, numbers: list[str]) -> None:
        self._sim, self._longest = sim, dict.fromkeys(numbers, 0.0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        since: dict[str, float] = {}
        while not self._done.wait(0.05):
            now = time.monotonic()
            for number in self._longest:
                if self._sim.device(number).live_sockets:
                    since.pop(number, None)
                else:
                    self._longest[number] = max(self._longest[number], now - since.setdefault(number, now))

    def end(self) -> dict[str, float]:
        """Return the longest times, in seconds."""
        self._done.set()
        self._thread.join()
        return self._longest


def _kill_everything(server: Server) -> None:
    """The guard first: it would start supervisord again."""
    ours = processes.started_by(f"unix://{server.socket}")
    supervisord, guards = psutil.Process(server.pid("supervisord")), []
    for one in ours:
        with contextlib.suppress(psutil.NoSuchProcess):  # a job's own process may just have ended
            if "waserver.guard" in one.cmdline():
                guards.append(one)
    assert len(guards) == 1
    for one in [*guards, supervisord, *ours]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    processes.still_running([*ours, supervisord], 10)
    for one in processes.started_by(f"unix://{server.socket}"):  # started by one of them meanwhile
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    wait_for(lambda: not processes.started_by(f"unix://{server.socket}"), 10)


def _corrupt(store: Path) -> None:
    noise = random.Random(7)
    content = bytearray(store.read_bytes())
    content[: len(content) - 512] = noise.randbytes(len(content) - 512)
    store.write_bytes(content)
