"""The door: an HTTP proxy on loopback that leads to the one host there is, and to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl

from .connection import Connection
from .network import Network
from .trust import HOST
from .wire import Wire

log = logging.getLogger(__name__)

TARGET = f"{HOST}:443"


class Front:
    """Listens for CONNECT requests; answers TLS on the same connection."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> int:
        """Listen on 127.0.0.1; return the port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, backlog=1024)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def close(self) -> None:
        """Cut everyone off."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.info("a connection ends early: %s", error)
        except asyncio.CancelledError:  # only by `close`
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        broken = self._network.troubles.broken
        if broken == "blackhole":
            await reader.read()  # until the client gives up
            return
        method, _, rest = head.decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        if broken == "refuse" or method != "CONNECT" or target != TARGET:
            if not broken:
                log.warning("refused to connect to %s", target)
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if broken == "mute":
            await reader.read()
            return
        await writer.start_tls(self._network.trust.tls)
        await Connection(self._network, Wire(reader, writer)).run()
