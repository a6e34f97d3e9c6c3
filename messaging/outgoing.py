"""Calls to addresses that others gave us: webhooks, and media to fetch. The one place where that is done.

Against server-side request forgery: the host name is resolved here, every address it has must be public, and the
connection goes to exactly the address that was checked, so a name that changes between check and use (DNS rebinding)
gains nothing. A redirect is a new address and is checked like the first.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urljoin, urlsplit

from django.conf import settings

from messaging.errors import Refused

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_PORTS = {"https": 443, "http": 80}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_AGENT = "waserver"
#: The other side has closed a connection that was kept.
_CLOSED = (
    http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError,
)  # fmt: skip


class CallFailed(Exception):
    """The address was allowed and did not answer as it should; the text is one sentence."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Target:
    """An address taken apart."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str) -> Target:
    """Return a URL's parts. Raises Refused when it is not https, or not a URL one can call."""
    if any(ord(char) <= 32 or ord(char) >= 127 for char in url) or len(url) > 2000 or "\\" in url:
        raise Refused("url_invalid")
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise Refused("url_invalid") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.ALLOW_PRIVATE_URLS):
        raise Refused("url_not_https")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise Refused("url_invalid")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port, path)


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, whatever form it is written in."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(place: Target) -> list[str]:
    """Return the IP addresses to connect to, best first. Raises Refused when any address of the name is not public."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused("url_unresolved") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not settings.ALLOW_PRIVATE_URLS and not all(is_public(address) for address in addresses):
        raise Refused("url_private")
    return addresses


def check(url: str) -> None:
    """Raise Refused unless this address may be called, as far as can be said now."""
    resolve(target(url))


@dataclass
class Line:
    """Calls, one after another, on a connection that is kept while they go to the same place. For one thread."""

    timeout: timedelta
    limit: int  # bytes of an answer's body, at most
    _open: tuple[tuple[str, str, int], http.client.HTTPConnection] | None = field(default=None, init=False)

    def call(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:  # fmt: skip
        """Call once, without following redirects. Raises Refused or CallFailed; `timeout` bounds all of it."""
        place = target(url)
        began = time.monotonic()
        for kept in (True, False):
            connection = self._connection(place, use_kept=kept)
            if connection is None:
                continue
            guard = threading.Timer(
                max(0.1, self.timeout.total_seconds() - (time.monotonic() - began)), _cut, [connection]
            )
            guard.daemon = True
            guard.start()
            try:
                answer = self._exchange(connection, method, place, headers or {}, body)
                if time.monotonic() - began >= self.timeout.total_seconds():
                    raise TimeoutError  # cut off: what was read may look like a whole answer
                return answer
            except _CLOSED as error:
                self.close()
                if not kept:  # a fresh connection: this is the answer
                    raise CallFailed(f"The connection was closed: {_words(error)}") from None
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                self.close()
                late = time.monotonic() - began >= self.timeout.total_seconds()
                raise CallFailed("It did not answer in time." if late else _words(error)) from None
            finally:
                guard.cancel()
        raise CallFailed("The connection was closed.")

    def close(self) -> None:
        """Give the connection up."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _connection(self, place: Target, *, use_kept: bool) -> http.client.HTTPConnection | None:
        where = (place.scheme, place.host, place.port)
        if use_kept:
            return self._open[1] if self._open is not None and self._open[0] == where else None
        self.close()
        connection = _Pinned(place, resolve(place), self.timeout.total_seconds())
        self._open = (where, connection)
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, method: str, place: Target,
                  headers: Mapping[str, str], body: bytes | None) -> Answer:  # fmt: skip
        connection.request(method, place.path, body, {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers})
        response = connection.getresponse()
        length = response.headers.get("Content-Length", "")
        too_large = length.isdigit() and int(length) > self.limit
        data = b"" if too_large else response.read(self.limit + 1)
        if too_large or len(data) > self.limit:
            self.close()
            if method == "GET":
                raise Refused("media_too_large", values={"limit": self.limit // 1_000_000})
            data = data[: self.limit]
        if response.will_close:
            self.close()
        return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, data)


def fetch(url: str, limit: int, timeout: timedelta) -> Answer:
    """Return what an address gives, following at most 3 redirects, each checked. Raises Refused or CallFailed."""
    for _hop in range(_MOST_REDIRECTS + 1):
        line = Line(timeout, limit)
        try:
            answer = line.call("GET", url)
        finally:
            line.close()
        if answer.status not in _REDIRECTS:
            if answer.status != 200:
                raise CallFailed(f"It answered with {answer.status}.")
            return answer
        url = urljoin(url, answer.headers.get("location", ""))
    raise CallFailed("It redirects too often.")


class _Pinned(http.client.HTTPConnection):
    """Connects to the addresses that were checked, and to no other; the name counts for TLS and the Host header."""

    def __init__(self, place: Target, addresses: list[str], timeout: float) -> None:
        super().__init__(place.host, place.port, timeout=timeout)
        self._addresses, self._tls = addresses, place.scheme == "https"
        self.default_port = _PORTS[place.scheme]

    def connect(self) -> None:
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:
                if address == self._addresses[-1]:
                    raise
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = _context().wrap_socket(plain, server_hostname=self.host) if self._tls else plain


_contexts: list[ssl.SSLContext] = []


def _context() -> ssl.SSLContext:
    if not _contexts:  # costs 20 ms: the certificate authorities are read
        _contexts.append(ssl.create_default_context())
    return _contexts[0]


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a call whose time is over, whatever it is waiting for."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Its certificate is not accepted: {error.verify_message}."
    if isinstance(error, TimeoutError):
        return "It did not answer in time."
    return f"{getattr(error, 'strerror', None) or str(error) or type(error).__name__}."
