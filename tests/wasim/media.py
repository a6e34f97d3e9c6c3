"""Where files are put and fetched: what WhatsApp's media hosts do, over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from .binary_xml import Node, node

HOST = "mmg.whatsapp.net"
LIMIT = 200_000_000
_WAIT = 30.0


class Media:
    """Keeps what is uploaded, encrypted as it came. `error` (an HTTP status) refuses everything while it is set."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.uploads = self.downloads = self.error = 0
        self._auth = secrets.token_urlsafe(16)

    async def start(self, context: ssl.SSLContext) -> int:
        """Listen on loopback; return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def connection(self) -> Node:
        """Return the answer to the question where files go."""
        return node("media_conn", {"auth": self._auth, "auth_ttl": 3600, "ttl": 3600, "max_buckets": 12},
                    node("host", {"hostname": HOST}))  # fmt: skip

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, target, _ = request.split(" ")
        size = int(headers.get("content-length", "0"))
        if size > LIMIT:
            return False
        async with asyncio.timeout(_WAIT):
            body = await reader.readexactly(size)
        status, answer = self._answer(method, target, body)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: {len(answer)}\r\n\r\n"
        writer.write(line.encode() + answer)
        await writer.drain()
        return headers.get("connection", "").lower() != "close"

    def _answer(self, method: str, target: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        if self.error:
            return HTTPStatus(self.error), b""
        parts = urlsplit(target)
        if method == "POST" and parts.path.startswith("/mms/"):
            if parse_qs(parts.query).get("auth") != [self._auth]:
                return HTTPStatus.UNAUTHORIZED, b""
            self.uploads += 1
            path = f"/v/t62/{secrets.token_hex(12)}.enc"
            self.files[path] = body
            found = {"url": f"https://{HOST}{path}", "direct_path": f"{path}?ccb=1"}
            return HTTPStatus.OK, json.dumps(found).encode()
        if method == "GET" and parts.path in self.files:
            self.downloads += 1
            return HTTPStatus.OK, self.files[parts.path]
        return HTTPStatus.NOT_FOUND, b""
