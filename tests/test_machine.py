"""The machines of the tests: a cable that is cut is silent, and a run that was killed leaves nothing behind."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from tests.installation import ROOT, wait_for
from tests.machine import Alias, Machine, Namespace, hindrance

needs_namespaces = pytest.mark.skipif(bool(hindrance()), reason=f"no network namespaces: {hindrance()}")

#: Says where it is, and what each server says, or why not.
_VISIT = """
import socket, sys
print(socket.gethostname())
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1) as server:
            print(server.recv(9).decode())
    except OSError as error:
        print(type(error).__name__)
"""

#: Stays connected until it is told to go on, then repeats what the server says to that.
_STAY = """
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
with socket.create_connection((host, int(port)), timeout=10) as server:
    print(server.recv(9).decode(), flush=True)
    server.sendall(sys.stdin.readline().encode())
    print(server.recv(9).decode())
"""


@pytest.fixture
def server() -> Iterator[str]:
    """A server that says hello, and then repeats what it hears; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.sendall(b"hello")
                while heard := client.recv(9):
                    client.sendall(heard)

        def serve() -> None:
            while True:
                try:
                    client, _address = listening.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://user:word@127.0.0.1:{listening.getsockname()[1]}/path?query"
        listening.shutdown(socket.SHUT_RDWR)


def visit(box: Machine, *names: str) -> list[str]:
    """Return the machine's host name, and what each server says there."""
    command = [*box.command, sys.executable, "-c", _VISIT, *(address(box, name) for name in names)]
    return subprocess.check_output(command, text=True).split()


def address(box: Machine, name: str) -> str:
    """Return host:port of a server as that machine reaches it."""
    return urlsplit(box.urls[name]).netloc.rpartition("@")[2]


both = pytest.mark.parametrize("make", [Alias, pytest.param(Namespace, marks=needs_namespaces)])


@both
def test_a_cable_that_is_cut_is_silent_and_the_others_are_not(make: type[Machine], server: str) -> None:
    box = make("box-1", {"one": server, "two": server})
    here = box.name if make is Namespace else socket.gethostname()
    assert urlsplit(box.urls["one"])._replace(netloc="") == urlsplit(server)._replace(netloc="")
    assert urlsplit(box.urls["one"]).username == "user"
    assert visit(box, "one", "two") == [here, "hello", "hello"]
    box.cut("one")
    assert visit(box, "one", "two") == [here, "TimeoutError", "hello"]
    box.mend()
    assert visit(box, "one", "two") == [here, "hello", "hello"]
    box.cut()
    assert visit(box, "one", "two") == [here, "TimeoutError", "TimeoutError"]
    box.close()


@both
def test_what_is_open_on_a_whole_cable_does_not_notice_another(make: type[Machine], server: str) -> None:
    box = make("box-1", {"one": server, "two": server})
    command = [*box.command, sys.executable, "-c", _STAY, address(box, "two")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitor:
        assert visitor.stdout is not None
        assert visitor.stdout.readline() == "hello\n"
        box.cut("one")
        box.mend()
        assert visitor.communicate("there\n", 20)[0].split() == ["there"]
    box.close()


@needs_namespaces
def test_a_machine_has_no_way_out_but_its_cables(server: str) -> None:
    one, two = Namespace("box-1", {"one": server}), Namespace("box-2", {"one": server})
    one.urls["around"] = server
    assert visit(one, "one", "around") == ["box-1", "hello", "ConnectionRefusedError"]  # its own loopback
    one.cut()
    assert visit(two, "one") == ["box-2", "hello"]
    one.close()
    two.close()


@needs_namespaces
def test_a_run_that_is_killed_leaves_no_machine_behind(server: str) -> None:
    code = (
        "import sys, time\nfrom tests.machine import Namespace\n"
        "box = Namespace('box-1', {'one': sys.argv[1]})\n"
        "print(box._inside.pid, box._rack.pid, flush=True)\ntime.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, server], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    holders = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
    assert all(map(runs, holders))
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(runs, holders)), 10)


def runs(process: psutil.Process) -> bool:
    """Return whether it runs. One that ended may never be collected: the first process of a container need not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
