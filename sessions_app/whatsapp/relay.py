"""The rein on the Go library: a loopback CONNECT relay every WhatsApp client of this process dials through.

The library's own connection can neither be timed out nor be cut from outside, and it dials again for ever. Through
the relay it can: a route is opened per client, `dial` reaches WhatsApp before the client starts, `abort` cuts every
tunnel and refuses new ones, `silent_for` tells how long nothing arrived. One event loop on one daemon thread serves
all routes; it sleeps while nothing moves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from sessions_app.whatsapp.doze import Doze
from sessions_app.whatsapp.tunnel import Inbound, Outbound
from sessions_app.whatsapp.upstream import DIAL_TIMEOUT, DialError, dial

#: Where the library connects first; only traffic of this host counts as a sign of life.
WHATSAPP_HOST = "web.whatsapp.com"
#: The only hosts a client may reach, and those below them: what arrives names addresses to fetch files from, and
#: nobody may lead this process elsewhere by writing a message.
ALLOWED = ("whatsapp.com", "whatsapp.net")
#: Bytes one connection for files may bring: the library holds a whole file in memory, and believes no size.
MOST = 256_000_000
#: Seconds a pre-opened tunnel may wait for its client before it is thought stale and dialled again.
FRESH = 10.0

T = TypeVar("T")


class Route:
    """The way out of one client. Made by `Relay.open`; the methods may be called from any thread."""

    def __init__(self, relay: Relay, proxy: str) -> None:
        self.name = secrets.token_hex(8)
        self.token = secrets.token_urlsafe(24)
        #: Set when the library's first CONNECT has arrived.
        self.on_connect: Callable[[], None] = _nothing
        #: Whether the library is telling us something: until we have written it down, it says nothing to WhatsApp.
        self.telling: Callable[[], bool] = _never
        self.last_error: DialError | None = None
        #: The connection to WhatsApp the client was last given, and when (time.monotonic).
        self.connection: Outbound | None = None
        self.joined_at = 0.0
        self._relay = relay
        self._proxy = proxy
        self._opened: tuple[Outbound, float] | None = None
        self._tunnels: set[Inbound | Outbound] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_received = time.monotonic()
        self._aborted = False

    @property
    def url(self) -> str:
        """Return the proxy URL to hand to the library. It holds a secret: never log it."""
        return f"http://{self.name}:{self.token}@127.0.0.1:{self._relay.port}"

    def dial(self) -> None:
        """Reach WhatsApp and keep the connection for the client's first CONNECT. Raises DialError within 16 s."""
        self._relay.run(self._pre_dial(), DIAL_TIMEOUT + 1)

    def abort(self) -> None:
        """Cut every tunnel at once and refuse new ones. Returns without waiting."""
        self._aborted = True
        self._relay.soon(self._abort)

    def close(self) -> None:
        """Abort and forget this route."""
        self._aborted = True
        self._relay.soon(self._abort, True)

    def rouse(self) -> None:
        """Have what the client is about to say passed on at once, should its connection doze."""
        if (inbound := self._dozing()) is not None:
            self._relay.soon(inbound.rouse)

    def silent_for(self) -> float:
        """Return the seconds since the last byte from WhatsApp (or since the route was opened)."""
        return max(0.0, time.monotonic() - self._last_received)

    def in_use(self) -> bool:
        """Return whether the client has a connection, or is dialling one."""
        return bool(self._tunnels or self._tasks)

    def received(self, size: int) -> bool:
        """Note that WhatsApp sent something; True, as it may go on. For the tunnels."""
        self._last_received = time.monotonic()
        return True

    async def _pre_dial(self) -> None:
        self._remember(asyncio.current_task())
        outbound = await self._dial(WHATSAPP_HOST, 443)
        self._opened = (outbound, time.monotonic())
        self._tunnels.add(outbound)

    def _remember(self, task: asyncio.Task[None] | None) -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, host: str, port: int) -> Outbound:
        if self._aborted:
            raise DialError("stopped", "The client was stopped.")
        received = self.received if host == WHATSAPP_HOST else _within(MOST)

        def protocol() -> Outbound:
            return Outbound(received, self._tunnels.discard)

        try:
            outbound = await dial(host, port, self._proxy, protocol)
        except DialError as error:
            self.last_error = error
            raise
        if self._aborted:
            outbound.abort()
            raise DialError("stopped", "The client was stopped.")
        return outbound

    def request(self, inbound: Inbound, host: str, port: int) -> None:
        """Serve one CONNECT of this route's client. On the loop."""
        if self._aborted:
            inbound.refuse(403)
            return
        self.on_connect()
        if (earlier := self._dozing()) is not None:
            earlier.rouse()  # it may have ended, which has to be passed on before the client logs in again
        self._tunnels.add(inbound)
        self._remember(asyncio.get_running_loop().create_task(self._serve(inbound, host, port)))

    async def _serve(self, inbound: Inbound, host: str, port: int) -> None:
        try:
            outbound = self._take_opened(host, port) or await self._dial(host, port)
        except DialError:
            inbound.refuse(502)
            return
        self._tunnels.add(outbound)
        telling = doze = None
        if host == WHATSAPP_HOST:
            self.connection, self.joined_at = outbound, time.monotonic()
            telling, doze = self.telling, self._relay.doze
        inbound.join(outbound, self._tunnels.discard, telling, doze)

    def _dozing(self) -> Inbound | None:
        """Return the client's end of its connection to WhatsApp if that dozes."""
        inbound = self.connection.peer if self.connection is not None else None
        return inbound if isinstance(inbound, Inbound) and inbound.dozes else None

    def _take_opened(self, host: str, port: int) -> Outbound | None:
        if self._opened is None or (host, port) != (WHATSAPP_HOST, 443):
            return None
        (outbound, at), self._opened = self._opened, None
        if outbound.usable() and time.monotonic() - at < FRESH:
            return outbound
        outbound.abort()
        return None

    def _abort(self, forget: bool = False) -> None:
        for task in list(self._tasks):
            task.cancel()
        for tunnel in list(self._tunnels):
            tunnel.abort()
        self._tunnels.clear()
        self._opened = None
        if forget:
            self._relay.forget(self)


class Relay:
    """All routes of one process. Starts its thread and its listening port (127.0.0.1, any) when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._routes: dict[str, Route] = {}
        self.doze: Doze | None = None
        self.port = 0

    def open(self, proxy: str = "") -> Route:
        """Return a new route that leaves through `proxy` ("" is directly)."""
        self._start()
        route = Route(self, proxy)
        self._routes[route.name] = route
        return route

    def forget(self, route: Route) -> None:
        """Know this route no longer."""
        self._routes.pop(route.name, None)

    def close(self) -> None:
        """Cut everything and end the thread. Idempotent."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)

    def soon(self, call: Callable[..., object], *args: object) -> None:
        """Run `call` on the loop soon; dropped when the relay is closed."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(call, *args)

    def run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run `work` on the loop and return its result. Raises DialError when it takes longer than `timeout` s."""
        loop = self._loop
        if loop is None:
            work.close()
            raise DialError("stopped", "The client was stopped.")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise DialError("timeout", f"WhatsApp was not reached within {timeout:.0f} s.") from None
        except CancelledError:
            raise DialError("stopped", "The client was stopped.") from None

    def route_for(self, authorization: str) -> Route | None:
        """Return the route a Proxy-Authorization value belongs to, or None."""
        scheme, _, encoded = authorization.strip().partition(" ")
        try:
            name, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        route = self._routes.get(name)
        if scheme.lower() != "basic" or route is None or not secrets.compare_digest(route.token, token):
            return None
        return route

    def _start(self) -> None:
        with self._lock:
            if self._loop is not None:
                return
            loop = asyncio.new_event_loop()
            ready = threading.Event()
            self._server = None
            thread = threading.Thread(target=self._serve, args=(loop, ready), name="whatsapp-relay", daemon=True)
            thread.start()
            ready.wait()
            if self._server is None:
                raise RuntimeError("The relay could not open a port on 127.0.0.1.")
            self.port = self._server.sockets[0].getsockname()[1]
            self._loop, self._thread = loop, thread

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        self.doze = Doze(loop)
        try:
            serving = loop.create_server(lambda: Inbound(self._requested), "127.0.0.1", 0, backlog=512)
            self._server = loop.run_until_complete(serving)
        finally:
            ready.set()
        loop.run_forever()
        for route in list(self._routes.values()):
            route.abort()
            route._abort(True)
        self._server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.doze.close()
        loop.close()

    def _requested(self, inbound: Inbound, host: str, port: int, authorization: str) -> None:
        route = self.route_for(authorization)
        if route is None:
            inbound.refuse(407)
        elif port != 443 or not _is_allowed(host):
            inbound.refuse(403)
        else:
            route.request(inbound, host, port)


def _is_allowed(host: str) -> bool:
    return any(host == each or host.endswith(f".{each}") for each in ALLOWED)


def _within(most: int) -> Callable[[int], bool]:
    """Return what counts bytes and says whether they are still within `most`."""
    left = most

    def received(size: int) -> bool:
        nonlocal left
        left -= size
        return left >= 0

    return received


def _nothing() -> None:
    pass


def _never() -> bool:
    return False
