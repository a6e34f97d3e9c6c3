"""The two ends of a relayed connection: the library's side (Inbound) and WhatsApp's side (Outbound).

Plain asyncio protocols without a task per tunnel: what arrives at one end is written to the other, and an end whose
buffer is full stops the other from reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from sessions_app.whatsapp.doze import Doze
from sessions_app.whatsapp.records import Records

_HEAD_LIMIT = 8192
#: Seconds in which a connection to the relay must have said what it wants.
_HEAD_TIMEOUT = 10.0

#: Seconds by which WhatsApp's closing is passed on late, the goodbye inside TLS as well as the end of the connection:
#: the library drops the last stanza ("replaced", "logged out") when the end comes before it has got round to it.
LAST_WORD = 0.2
#: Seconds by which what the library says is passed on late, once it can confirm something: it queues what it tells us
#: and confirms it to WhatsApp at the same time, without waiting for us. Whatever is confirmed is sent by nobody again.
_AFTERTHOUGHT = 0.005
#: Seconds by which a timer may be late. One that is later tells of a process starved of processor time, and so may be
#: the thread that is about to tell us something: the wait begins anew, up to so many seconds.
_LATE, _LONGEST = 0.0025, 0.5
#: Seconds of silence after which there is nothing left to confirm: the library has read what came long ago.
_NOTHING_LEFT = 10.0
#: Bytes that wait to be passed on from which nothing more is read.
_MANY = 1 << 20

Requested = Callable[["Inbound", str, int, str], None]
Gone = Callable[["End"], None]


class End(asyncio.Protocol):
    """One end: forwards to `peer`, passes on back-pressure, and takes the other end down with it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: End | None = None
        self._gone: Gone = _ignore
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and make the socket notice a dead peer within about a minute."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _keep_alive(sock)

    def data_received(self, data: bytes) -> None:
        """Forward to the other end."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        """Stop the other end from reading: this one cannot keep up."""
        self._full = True
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other end read again."""
        self._full = False
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end once what it still has to write is written."""
        self.transport = None
        if self.peer is not None:
            self.peer.close()
        self._gone(self)

    def close(self) -> None:
        """Close this end once what it still has to write is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut this end and the other at once."""
        for end in (self, self.peer):
            if end is not None and end.transport is not None:
                end.transport.abort()


class Outbound(End):
    """WhatsApp's side. `received` is told the size of all that arrives, and says whether the connection may go on."""

    def __init__(self, received: Callable[[int], bool], gone: Gone) -> None:
        super().__init__()
        self._received = received
        self._gone = gone
        self._early = b""
        self.received_at = 0.0  # time.monotonic
        self._records = Records()
        self._held: bytearray | None = None  # a goodbye and what follows it

    def data_received(self, data: bytes) -> None:
        """Forward to the library, a goodbye a moment later, and note the sign of life."""
        if not self._received(len(data)):
            self.abort()
            return
        self.received_at = time.monotonic()
        if isinstance(self.peer, Inbound):
            self.peer.hears(len(data))
        now = self._records.before_goodbye(data)
        if self._held is not None:
            self._held += data
            return
        if now < len(data):
            self._held = bytearray(data[now:])
            asyncio.get_running_loop().call_later(LAST_WORD, self._let_go)
        if now:
            self._forward(data[:now])

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            self._forward(bytes(held))

    def _forward(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the library's side a moment later."""
        self.transport = None
        self._gone(self)
        if self.peer is not None and self.peer.transport is not None:
            asyncio.get_running_loop().call_later(LAST_WORD, self.peer.close)

    def usable(self) -> bool:
        """Return whether the connection is still open. From any thread."""
        transport = self.transport
        return transport is not None and not transport.is_closing()

    def take_early(self) -> bytes:
        """Return what arrived before there was another end."""
        early, self._early = self._early, b""
        return early


class Inbound(End):
    """The library's side: reads one CONNECT request, then forwards what it says, once we have heard what it told us."""

    def __init__(self, requested: Requested) -> None:
        super().__init__()
        self._requested = requested
        self._head = b""
        self._asked = False
        self._deadline: asyncio.TimerHandle | None = None
        self._telling: Callable[[], bool] | None = None
        self._unsaid: deque[tuple[float, bytes]] = deque()  # when it came, and what
        self._waiting = 0  # bytes of it
        self._due = self._punctual_since = 0.0  # when the timer is, and since when it was never late
        self._doze: Doze | None = None
        self._said_at = 0.0  # time.monotonic

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the other side a few seconds to send its request."""
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(_HEAD_TIMEOUT, self.abort)

    def data_received(self, data: bytes) -> None:
        """Collect the request head, then forward."""
        if self._asked:
            self._say(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _HEAD_LIMIT:
                self.refuse(431)
            return
        self._asked = True
        self._stop_deadline()
        if rest:  # a client may not speak before its CONNECT is answered
            self.refuse(400)
            return
        assert self.transport is not None
        self.transport.pause_reading()
        self._head = b""
        try:
            host, port, authorization = _parse(head)
        except ValueError:
            self.refuse(400)
            return
        self._requested(self, host, port, authorization)

    def join(self, outbound: Outbound, gone: Gone, telling: Callable[[], bool] | None = None,
             doze: Doze | None = None) -> None:  # fmt: skip
        """Answer the CONNECT and forward from now on, but nothing while the library is `telling` us something.

        With `doze` the connection dozes whenever it rests.
        """
        if self.transport is None or self.transport.is_closing():
            outbound.abort()
            return
        self._gone, self._telling = gone, telling
        self.peer, outbound.peer = outbound, self
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n" + outbound.take_early())
        if not outbound.usable():
            self.transport.close()
            return
        self.transport.resume_reading()
        if doze is not None:
            self._doze, self._said_at = doze, time.monotonic()
            doze.add(self)

    @property
    def dozes(self) -> bool:
        """Return whether this connection dozes. From any thread."""
        return self._doze is not None and self in self._doze

    def rouse(self) -> None:
        """Serve this connection at once, should it doze: something is about to be said."""
        if self._doze is not None:
            self._doze.rouse(self)

    def hears(self, size: int) -> None:
        """Note that so many bytes came from WhatsApp."""
        if self._doze is not None and self in self._doze:
            self._doze.heard(self, size)

    # -- for Doze

    def quiet_since(self) -> float:
        """Return since when (time.monotonic) neither side has said anything."""
        assert isinstance(self.peer, Outbound)
        return time.monotonic() if self._unsaid else max(self._said_at, self.peer.received_at)

    def descriptor(self) -> int:
        """Return the socket's file descriptor."""
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())

    def read(self, on: bool) -> None:
        """Read what the library says, or leave it."""
        if self.peer is None or self.transport is None or self.transport.is_closing():
            return
        if on and not self.peer._full:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def let_wait(self, size: int) -> None:
        """Leave what WhatsApp says unread as long as it is no more than so many bytes; with 0, no more."""
        if self.peer is not None and self.peer.transport is not None:
            with contextlib.suppress(OSError):
                # Linux tells the event loop of fewer bytes than this neither when they come nor later, but as soon as
                # it is set to 1; of the connection's end always.
                self.peer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size + 1)

    def refuse(self, status: int) -> None:
        """Answer with an HTTP error and close."""
        self._stop_deadline()
        self._asked = True
        if self.transport is not None:
            phrase = HTTPStatus(status).phrase
            self.transport.write(f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\n\r\n".encode())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock too, and close the other end once everything is said."""
        self._stop_deadline()
        if self._doze is not None:
            self._doze.discard(self)
        self.transport = None
        if not self._unsaid:
            super().connection_lost(exc)

    def _say(self, data: bytes) -> None:
        now = time.monotonic()
        silent, self._said_at = now - self._said_at, now
        if self._doze is not None and self in self._doze:
            self._doze.said(self, len(data), silent)
        nothing_left = isinstance(self.peer, Outbound) and self.peer.received_at < now - _NOTHING_LEFT
        if not self._unsaid and (self._telling is None or nothing_left):
            super().data_received(data)
            return
        if not self._unsaid:
            self._wait(_AFTERTHOUGHT)
        self._unsaid.append((now, data))
        self._waiting += len(data)
        if self._waiting > _MANY and self.transport is not None:
            self.transport.pause_reading()

    def _pass_on(self) -> None:
        """Forward what has waited long enough, unless we are being told something right now."""
        assert self._telling is not None
        now = time.monotonic()
        if now - self._due > _LATE:
            self._punctual_since = now
        while self._unsaid and self._ripens_at() <= now and not self._telling():
            data = self._unsaid.popleft()[1]
            self._waiting -= len(data)
            super().data_received(data)
        if self._unsaid:
            self._wait(max(_AFTERTHOUGHT / 4, self._ripens_at() - now))
        elif self.transport is None:
            super().connection_lost(None)
        if self._waiting <= _MANY and self.transport is not None and not (self.peer and self.peer._full):
            self.transport.resume_reading()

    def _ripens_at(self) -> float:
        """Return when the first of what was said has waited long enough."""
        came = self._unsaid[0][0]
        # Timers may come a little early.
        return min(max(came, self._punctual_since) + _AFTERTHOUGHT * 0.9, came + _LONGEST)

    def _wait(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self._pass_on)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _parse(head: bytes) -> tuple[str, int, str]:
    """Return (host, port, Proxy-Authorization value) of a CONNECT request; raises ValueError."""
    request, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = request.split(" ")
    host, colon, port = target.rpartition(":")
    if method != "CONNECT" or not colon or not host:
        raise ValueError(request)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return host.strip("[]"), int(port), headers.get("proxy-authorization", "")


def _keep_alive(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _ignore(end: End) -> None:
    pass
