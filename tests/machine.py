"""Machines for processes under test: each with a network and a host name of its own, and a cable to each server.

A machine is a Linux network namespace without any way out but its cables. A cable is a veth pair whose far end lies in
a second namespace, the rack, where a forwarder of this process listens and hands on to the server. Nothing has a name
or an address outside of the two: they live as long as a process does that ends with this one, however it ends.

Where namespaces are not to be had, a machine is only an alias of this one behind proxies (cable.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
import socket
import subprocess
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.cable import Cable

#: Addresses for tests between machines (RFC 2544); each cable has four of them. All machines have the same.
_NETWORK = "198.18.0.{}"
_CLONE_NEWNET = 0x40000000
#: Says when it is there, and ends when we do, killed or not: the pipe to it closes.
_HOLD = 'hostname "$0" && echo && exec cat'


@functools.cache
def hindrance() -> str:
    """Return why machines cannot have networks of their own here; "" when they can."""
    if os.geteuid() != 0:
        return "not root"
    try:
        tried = subprocess.run(
            ["unshare", "--net", "--uts", "sh", "-c", "hostname test && ip link add near type veth peer name far"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}"


def kind() -> str:
    """Return what `machine` makes here, for the record of a run."""
    if reason := hindrance():
        return f"processes of this machine behind proxies, as namespaces are not to be had ({reason})"
    return "network namespaces"


def machine(name: str, servers: Mapping[str, str]) -> Machine:
    """Return a machine led to these servers (name of the cable -> URL), as real as this system allows."""
    return Alias(name, servers) if hindrance() else Namespace(name, servers)


class Machine:
    """`command` in front of another starts that one there; `urls` lead to the servers from there."""

    def __init__(self, name: str, servers: Mapping[str, str]) -> None:
        self.name = name
        self.command: list[str] = []
        self.urls: dict[str, str] = {}
        self._cables: dict[str, Cable] = {}
        self._lay(list(servers))
        for position, (cable, url) in enumerate(servers.items()):
            server = urlsplit(url)
            end = self._far_end(position)
            self._cables[cable] = Cable(server.hostname or "127.0.0.1", server.port or 0, end)
            user, at, _address = server.netloc.rpartition("@")
            host, port = end.getsockname()
            self.urls[cable] = server._replace(netloc=f"{user}{at}{host}:{port}").geturl()

    def cut(self, *names: str) -> None:
        """Cut these cables, or all: from now on nothing gets through, and nobody is told."""
        for name in names or self._cables:
            self._switch(name, on=False)

    def mend(self) -> None:
        """Mend them all."""
        for name in self._cables:
            self._switch(name, on=True)

    def close(self) -> None:
        """Take it down. What runs there has ended before."""
        for cable in self._cables.values():
            cable.close()

    def _lay(self, names: list[str]) -> None:
        raise NotImplementedError

    def _far_end(self, position: int) -> socket.socket:
        raise NotImplementedError

    def _switch(self, name: str, *, on: bool) -> None:
        raise NotImplementedError


class Alias(Machine):
    """This machine. What was open when a cable was cut is reset when it is mended."""

    def _lay(self, names: list[str]) -> None:
        pass

    def _far_end(self, position: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def _switch(self, name: str, *, on: bool) -> None:
        cable = self._cables[name]
        (cable.mend if on else cable.cut)()


class Namespace(Machine):
    """A machine of its own. What was open when a cable was cut goes on when it is mended, as long as TCP tried."""

    def _lay(self, names: list[str]) -> None:
        self._inside, self._rack = _hold(self.name), _hold(f"{self.name}-rack")
        self.command = ["nsenter", "--target", str(self._inside.pid), "--net", "--uts", "--"]
        inside, rack = ["link set lo up"], ["link set lo up"]
        for position, name in enumerate(names):
            near, far = (f"02:00:00:00:{position:02x}:{end:02x}" for end in (2, 1))
            near_address, far_address = (_NETWORK.format(4 * position + end) for end in (2, 1))
            inside += [
                f"link add {name} address {near} type veth peer name {name} address {far} netns {self._rack.pid}",
                f"address add {near_address}/30 dev {name}",
                f"link set {name} up",
                # Known for good: else a cut cable says "no route to host" once nobody answers for the address.
                f"neighbour add {far_address} lladdr {far} dev {name} nud permanent",
            ]
            rack += [f"address add {far_address}/30 dev {name}", f"link set {name} up"]
        _ip(self._inside, *inside)
        _ip(self._rack, *rack)

    def _far_end(self, position: int) -> socket.socket:
        # A socket belongs to the namespace it was made in, whoever uses it.
        with open("/proc/thread-self/ns/net") as here, open(f"/proc/{self._rack.pid}/ns/net") as there:
            _enter(there.fileno())
            try:
                return socket.create_server((_NETWORK.format(4 * position + 1), 0))
            finally:
                _enter(here.fileno())

    def _switch(self, name: str, *, on: bool) -> None:
        # The far end: from inside, the cable is still there, and silent.
        _ip(self._rack, f"link set {name} {'up' if on else 'down'}")

    def close(self) -> None:
        super().close()
        for holder in (self._inside, self._rack):
            holder.communicate()


def _hold(name: str) -> subprocess.Popen[bytes]:
    """Return a process in a network and under a host name of its own, which are there as long as it is."""
    holder = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c", _HOLD, name],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert holder.stdout is not None
    if not holder.stdout.readline():
        raise OSError(f"there is no namespace for {name}")
    return holder


def _ip(holder: subprocess.Popen[bytes], *commands: str) -> None:
    subprocess.run(["nsenter", "--target", str(holder.pid), "--net", "ip", "-batch", "-"],
                   input="\n".join(commands), text=True, check=True)  # fmt: skip


def _enter(namespace: int) -> None:
    """Move this thread into a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
