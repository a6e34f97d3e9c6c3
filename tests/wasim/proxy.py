"""The way to the server: an HTTP proxy that knows two targets, and can be broken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from . import media
from .certificates import HOST


class Pipe(asyncio.Protocol):
    """One side of a tunnel."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def abort(self) -> None:
        """Cut it without a goodbye."""
        if self.transport is not None:
            self.transport.abort()


class Client(Pipe):
    """The side of the client: asks for the tunnel first."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy, self._head = proxy, b""
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.clients.add(self)

    def data_received(self, data: bytes) -> None:
        if self._asked:
            super().data_received(data)
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._asked = True
            asyncio.get_running_loop().create_task(self._open())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._proxy.clients.discard(self)

    async def _open(self) -> None:
        words = self._head.split(b"\r\n", 1)[0].decode("latin-1").split()
        target = words[1] if len(words) > 1 and words[0] == "CONNECT" else ""
        if self._proxy.broken == "blackhole":
            return
        port = self._proxy.targets.get(target)
        if port is None or self._proxy.broken == "refused":
            self._refuse()
            return
        if self._proxy.broken != "mute":
            with contextlib.suppress(OSError):
                _, self.other = await asyncio.get_running_loop().create_connection(
                    Pipe, "127.0.0.1", port
                )
                self.other.other = self
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        elif self.other is not None:
            self.other.abort()

    def _refuse(self) -> None:
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


class Proxy:
    """Listens on loopback. `broken` is "", "refused", "blackhole" (never answers) or "mute" (a tunnel to nowhere)."""

    def __init__(self, server_port: int, media_port: int) -> None:
        self.targets = {f"{HOST}:443": server_port, f"{media.HOST}:443": media_port}
        self.broken = ""
        self.clients: set[Client] = set()

    async def start(self, port: int = 0) -> int:
        """Listen; return the port."""
        make: Callable[[], Client] = lambda: Client(self)  # noqa: E731
        self._server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening and cut every tunnel."""
        self._server.close()
        for client in list(self.clients):
            client.abort()
