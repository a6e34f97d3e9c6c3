"""One client's connection: the handshake, then stanzas both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from . import binary_xml, protobuf
from .binary_xml import Node, node
from .device import Device
from .noise import HEADER, Cipher, FrameReader, NoiseError, ServerHandshake, frame
from .protobuf import Fields


class Connection:
    """Speaks with one client. `silent` leaves everything unanswered; `delay` (seconds) comes before every answer."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._frames = FrameReader()
        self._read: Cipher | None = None
        self._write: Cipher | None = None
        self._arrived: list[bytes] = []
        self.device: Device | None = None
        self.silent = False
        self.delay = 0.0

    async def shake_hands(self, handshake: ServerHandshake) -> tuple[bytes, Fields]:
        """Return the client's (static key, ClientPayload). Raises NoiseError or ConnectionClosed."""
        await self._next_frame(first=True)
        await self._socket.send(frame(handshake.answer(self._arrived.pop(0))))
        await self._next_frame()
        static, payload = handshake.finish(self._arrived.pop(0))
        self._read, self._write = handshake.split()
        try:
            return static, protobuf.decode(payload)
        except ValueError as error:
            raise NoiseError("the payload is not protobuf") from error

    async def stanzas(self) -> AsyncIterator[Node]:
        """Yield what the client sends, until it goes."""
        assert self._read is not None
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._arrived:
                    yield binary_xml.decode(self._read.decrypt(self._arrived.pop(0)))
                await self._next_frame()

    async def send(self, stanza: Node) -> None:
        """Send, unless it is silenced or gone."""
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.silent or self._write is None:
            return
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(frame(self._write.encrypt(binary_xml.encode(stanza))))

    async def fail(self, reason: int, **attributes: str) -> None:
        """Refuse the log-in and close."""
        await self.send(node("failure", {"reason": reason, "location": "sim", **attributes}))
        await self.close()

    async def stream_error(self, code: str = "", conflict: str = "") -> None:
        """Send a stream error and close, as WhatsApp does: the stream's end follows it."""
        children = [node("conflict", {"type": conflict})] if conflict else []
        await self.send(node("stream:error", {"code": code or None}, *children))
        await self.send(node("xmlstreamend"))
        await self.close()

    async def close(self) -> None:
        """Close as WhatsApp does: the WebSocket is not told, TLS and TCP are."""
        self._socket.transport.close()

    def abort(self) -> None:
        """Cut it without a goodbye."""
        self._socket.transport.abort()

    async def _next_frame(self, first: bool = False) -> None:
        while not self._arrived:
            data = await self._socket.recv()
            if isinstance(data, str):
                raise NoiseError("a text message")
            if first:
                if not data.startswith(HEADER):
                    raise NoiseError("not the protocol's header")
                data, first = data[len(HEADER) :], False
            self._arrived += self._frames.feed(data)
