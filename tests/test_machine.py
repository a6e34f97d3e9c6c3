"""The machines of the tests: a cable that is cut is silent, and a run that was killed leaves nothing behind."""

from __future__ import annotations

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


@pytest.fixture
def server() -> Iterator[str]:
    """A server that says hello; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _address = listening.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://user:word@127.0.0.1:{listening.getsockname()[1]}/path?query"
        listening.shutdown(socket.SHUT_RDWR)


def visit(box: Machine, *names: str) -> list[str]:
    """Return the machine's host name, and what each server says there."""
    addresses = [urlsplit(box.urls[name]).netloc.rpartition("@")[2] for name in names]
    return subprocess.check_output([*box.command, sys.executable, "-c", _VISIT, *addresses], text=True).split()


@pytest.mark.parametrize("make", [Alias, pytest.param(Namespace, marks=needs_namespaces)])
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
