"""The simulator over HTTP, on loopback: a page that plays the phone, and JSON for tests in other processes.

GET / is the page. POST /NAME with a JSON object of arguments calls an action and answers {"result": ...}, or
{"error": "..."} with status 400. The actions are those of `Actions`.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .wasim import Wasim

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
LIMIT = 16 << 20
"""Bytes a request may have."""

WAIT = 10.0
"""Seconds a client has to send its request."""


class Actions:
    """What can be asked for, by name. Runs on worker threads, since the simulator's methods wait for its own thread."""

    def __init__(self, sim: Wasim) -> None:
        self._sim = sim
        faults = {name: call for name, call in inspect.getmembers(sim.faults, inspect.ismethod) if name[0] != "_"}
        self.all: dict[str, Callable[..., Any]] = {
            "state": self.state, "scan": self.scan, "scan_picture": self.scan_picture, "enter_code": self.enter_code,
            "unlink": self.unlink, "environment": sim.environment,
            **{f"faults.{name}": call for name, call in faults.items()},
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return the linked devices with their counters, the clients that wait for a phone, and the faults in force."""
        return {
            "devices": [device.summary() for device in self._sim.devices.values()],
            "pending": self._sim.pending(),
            "network": self._sim.proxy.broken,
        }

    def scan(self, phone: str, text: str, wrong: str = "") -> str:
        """Scan a QR text; see SimPhone.scan."""
        return self._sim.phone(phone).scan(text, wrong)

    def scan_picture(self, phone: str, picture: str, wrong: str = "") -> str:
        """Scan the QR code in a picture (base64, any common format). Raises ValueError when there is none."""
        return self.scan(phone, qr_text(base64.b64decode(picture)), wrong)

    def enter_code(self, phone: str, code: str) -> str:
        """Type a code in; see SimPhone.enter_code."""
        return self._sim.phone(phone).enter_code(code)

    def unlink(self, phone: str, device: str = "") -> None:
        """Unlink one device or all."""
        self._sim.phone(phone).unlink(device)


class Refused(Exception):
    """A request that gets an error page."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Control:
    """The HTTP side, on the simulator's own loop."""

    def __init__(self, sim: Wasim) -> None:
        self._sim = sim
        self._actions = Actions(sim)
        self._server: asyncio.Server | None = None
        self.url = ""

    def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1; return the address. Raises OSError when the port is taken. Ends with the simulator."""

        async def listen() -> int:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
            return int(self._server.sockets[0].getsockname()[1])

        self.url = f"http://127.0.0.1:{self._sim.run(listen())}"
        return self.url

    def stop(self) -> None:
        """Listen no longer."""

        async def close() -> None:
            if self._server is not None:
                self._server.close()

        self._sim.run(close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "application/json"
        try:
            async with asyncio.timeout(WAIT):
                path, body = await _request(reader)
            if body is None:
                kind, answer = "text/html; charset=utf-8", _page(path)
            else:
                answer = json.dumps({"result": await self._act(path, body)}).encode()
            status = HTTPStatus.OK
        except Refused as refused:
            status, answer = refused.status, json.dumps({"error": str(refused)}).encode()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()
            return
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(answer)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + answer)
        writer.close()

    async def _act(self, path: str, body: bytes) -> Any:
        action = self._actions.all.get(path.strip("/"))
        if action is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no action {path}")
        try:
            arguments = json.loads(body or b"{}")
            inspect.signature(action).bind(**arguments)
        except (ValueError, TypeError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        try:
            return await asyncio.to_thread(action, **arguments)
        except (ValueError, LookupError, TimeoutError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error) or type(error).__name__) from None


def qr_text(picture: bytes) -> str:
    """Return the text of the QR code in a picture. Raises ValueError when none can be read."""
    try:
        import zxingcpp
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ValueError("to scan pictures, install zxing-cpp and pillow; the text of the code works without") from None
    try:
        found = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)).convert("L"))
    except UnidentifiedImageError:
        raise ValueError("this is not a picture") from None
    if not found:
        raise ValueError("there is no QR code in this picture")
    return str(found[0].text)


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes | None]:
    """Return the path, and the body of a POST (None for a GET). Raises Refused."""
    request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, path = (*request.split(" "), "", "")[:2]
    # a page of somebody else, open in the same browser, must not be able to act here
    if headers.get("host", "").rpartition(":")[0] not in ("127.0.0.1", "localhost"):
        raise Refused(HTTPStatus.FORBIDDEN, "this is for this machine only")
    if method == "GET":
        return path, None
    if method != "POST" or headers.get("content-type") != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "actions are POSTed as application/json")
    size = headers.get("content-length", "0")
    if not size.isdecimal() or int(size) > LIMIT:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too long")
    return path, await reader.readexactly(int(size))


def _page(path: str) -> bytes:
    if path != "/":
        raise Refused(HTTPStatus.NOT_FOUND, "there is only one page")
    return PAGE.read_bytes()
