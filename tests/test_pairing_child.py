"""The pairing process seen from the host: what it leaves behind, and how it ends. Without a WhatsApp server."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sessions_app.whatsapp import device_store, library
from sessions_app.whatsapp.client import Kind, Observation, PairFailure, WhatsAppError
from sessions_app.whatsapp.pairing import ChildPairing
from waserver.processes import still_running

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hanging_server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        server.settimeout(10)
        yield server


@pytest.fixture
def hanging_proxy(hanging_server: socket.socket) -> str:
    """A proxy that takes connections and never answers: a pairing through it just waits."""
    return f"http://127.0.0.1:{hanging_server.getsockname()[1]}"


def dead_proxy() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"


def pair(store: Path, proxy: str, observe: Callable[[Observation], None]) -> ChildPairing:
    return ChildPairing(str(library.find()), str(store), proxy, observe)


class Footprint:
    """What this process had; threads and files of earlier tests may go meanwhile."""

    def __init__(self) -> None:
        self._threads, self._files, self._children = self._now()

    def added(self) -> tuple[int, int, int]:
        """Return how many threads, open files and children there are more."""
        threads, files, children = self._now()
        return len(threads - self._threads), max(0, files - self._files), len(children - self._children)

    @staticmethod
    def _now() -> tuple[set[threading.Thread], int, set[psutil.Process]]:
        me = psutil.Process()
        return set(threading.enumerate()), me.num_fds(), set(me.children(recursive=True))


def test_fifty_opened_and_cancelled_pairings_leave_nothing(
    tmp_path: Path, hanging_proxy: str, hanging_server: socket.socket
) -> None:
    seen: list[Observation] = []
    footprint = Footprint()
    for batch in range(10):
        pairings = [pair(tmp_path / f"{batch}-{number}.db", hanging_proxy, seen.append) for number in range(5)]
        # every other batch is cancelled once it dials, the others at once
        dialled = [hanging_server.accept()[0] for _ in pairings[: batch % 2 * 5]]
        assert all(pairing.alive() for pairing in pairings)
        assert footprint.added()[::2] == (5, 5)  # one thread and one child each
        for pairing in pairings:
            pairing.cancel()
            pairing.cancel()
            assert not pairing.alive()
        for connection in dialled:
            connection.close()
    assert footprint.added() == (0, 0, 0)
    assert (seen, list(tmp_path.iterdir())) == ([], [])


def test_a_dead_proxy_fails_the_pairing_without_telling_its_password(tmp_path: Path) -> None:
    seen: list[Observation] = []
    pairing = pair(tmp_path / "new.db", dead_proxy(), seen.append)
    pairing._reader.join(20)
    assert [observation.kind for observation in seen] == [Kind.PAIR_FAILED]
    assert seen[0].detail["reason"] == PairFailure.NETWORK
    assert seen[0].detail["cause"] == "proxy_unreachable"
    assert "secret" not in str(seen)
    assert not pairing.alive()
    assert list(tmp_path.iterdir()) == []


def test_a_pairing_process_that_dies_is_told_once(tmp_path: Path, hanging_proxy: str) -> None:
    seen: list[Observation] = []
    pairing = pair(tmp_path / "new.db", hanging_proxy, seen.append)
    pairing._child.send_signal(signal.SIGABRT)
    pairing._reader.join(10)
    pairing.cancel()
    assert [(each.kind, each.detail["reason"]) for each in seen] == [(Kind.PAIR_FAILED, PairFailure.CHILD_DIED)]


def test_a_pairing_is_alive_until_its_last_word_was_observed(tmp_path: Path, hanging_proxy: str) -> None:
    heard, go_on = threading.Event(), threading.Event()

    def observe(observation: Observation) -> None:
        heard.set()
        go_on.wait(10)

    pairing = pair(tmp_path / "new.db", hanging_proxy, observe)
    pairing._child.kill()
    assert heard.wait(10)
    assert pairing._child.poll() is not None
    assert pairing.alive()
    go_on.set()
    pairing._reader.join(10)
    assert not pairing.alive()


def test_the_child_ends_with_its_parent(tmp_path: Path, hanging_proxy: str) -> None:
    script = (
        "import sys, time\n"
        "from sessions_app.whatsapp.pairing import ChildPairing\n"
        f"pairing = ChildPairing({str(library.find())!r}, {str(tmp_path / 'new.db')!r}, {hanging_proxy!r}, print)\n"
        "print(pairing._child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    assert not still_running([child], 10)


def test_neither_store_nor_proxy_stands_on_the_command_line(tmp_path: Path, hanging_proxy: str) -> None:
    pairing = pair(tmp_path / "new.db", hanging_proxy, lambda observation: None)
    line = " ".join(psutil.Process(pairing._child.pid).cmdline())
    pairing.cancel()
    assert "new.db" not in line
    assert hanging_proxy not in line


@pytest.mark.parametrize("devices", [0, 1])
def test_only_a_store_without_a_device_is_deleted(tmp_path: Path, hanging_proxy: str, devices: int) -> None:
    store = tmp_path / "new.db"
    pairing = pair(store, hanging_proxy, lambda observation: None)
    with sqlite3.connect(store) as database:
        database.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
        database.executemany("INSERT INTO whatsmeow_device VALUES (?)", [("x",)] * devices)
    database.close()
    pairing.cancel()
    assert store.exists() == bool(devices)


def test_a_store_that_was_there_before_is_never_deleted(tmp_path: Path, hanging_proxy: str) -> None:
    store = tmp_path / "old.db"
    store.touch()
    pair(store, hanging_proxy, lambda observation: None).cancel()
    assert store.exists()


def test_a_store_that_cannot_be_read_counts_as_holding_a_device(tmp_path: Path) -> None:
    store = tmp_path / "broken.db"
    store.write_bytes(b"this is no database, but it may have been one" * 100)
    assert device_store.holds_device(str(store))


def test_a_store_path_the_library_would_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WhatsAppError, match="must not contain"):
        pair(tmp_path / "a?b.db", "", lambda observation: None)


def test_the_child_loads_neither_django_nor_neonize_s_own_client() -> None:
    code = (
        "import json, sys, sessions_app.whatsapp.pairing_child, sessions_app.whatsapp.neonize_client as n\n"
        "n.EventTypes(); n.device_props()\n"
        "print(json.dumps([m for m in ('django', 'neonize.client', 'PIL', 'requests', 'magic') if m in sys.modules]))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []


def test_a_missing_library_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WhatsAppError, match="is missing: run `make setup`"):
        library.load(str(tmp_path / "nothing.so"))


def test_a_file_that_is_no_library_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(WhatsAppError, match="cannot be loaded"):
        library.load(str(tmp_path / "text.so"))


def test_a_start_costs_a_bounded_time(tmp_path: Path, hanging_proxy: str) -> None:
    began = time.monotonic()
    pairing = pair(tmp_path / "new.db", hanging_proxy, lambda observation: None)
    assert time.monotonic() - began < 2
    pairing.cancel()
