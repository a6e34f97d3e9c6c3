"""Dialling WhatsApp: directly or through a proxy, with an exact reason when it fails."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

#: Seconds for one dial: name lookup, TCP and the proxy's answer together.
DIAL_TIMEOUT = 15.0

SCHEMES = {"http": ProxyType.HTTP, "socks5": ProxyType.SOCKS5, "socks5h": ProxyType.SOCKS5}
_DEFAULT_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}

P = TypeVar("P", bound=asyncio.BaseProtocol)


class DialError(Exception):
    """Upstream was not reached. `reason` is a stable code, the text a sentence without credentials."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def parse_proxy(url: str) -> tuple[ProxyType, str, int, str | None, str | None]:
    """Return (type, host, port, user, password) of a proxy URL.

    Raises DialError("proxy_invalid") for anything but http:// and socks5:// with a host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in SCHEMES:
        raise DialError("proxy_invalid", "The proxy must be given as http://HOST:PORT or socks5://HOST:PORT.")
    user = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password or "") if user is not None else None
    return SCHEMES[parts.scheme], host, port or _DEFAULT_PORTS[parts.scheme], user, password


async def dial(host: str, port: int, proxy: str, protocol: Callable[[], P]) -> P:
    """Return a connected protocol to host:port, through `proxy` unless it is "".

    Raises DialError within DIAL_TIMEOUT seconds.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DIAL_TIMEOUT):
            if proxy:
                sock = await _through(proxy, host, port)
                try:
                    _, connected = await loop.create_connection(protocol, sock=sock)
                except BaseException:
                    sock.close()
                    raise
            else:
                _, connected = await loop.create_connection(protocol, host, port, happy_eyeballs_delay=0.25)
    except DialError:
        raise
    except TimeoutError:
        via = "The proxy did not connect" if proxy else f"{host} did not answer"
        raise DialError("proxy_timeout" if proxy else "timeout", f"{via} within {DIAL_TIMEOUT:.0f} s.") from None
    except socket.gaierror:
        raise DialError("dns", f"The name {host} cannot be resolved; check the network and its DNS.") from None
    except OSError as error:
        raise _direct_failure(host, error) from None
    return connected


async def _through(proxy: str, host: str, port: int) -> socket.socket:
    kind, proxy_host, proxy_port, user, password = parse_proxy(proxy)
    where = f"{proxy_host}:{proxy_port}"
    client = Proxy(kind, proxy_host, proxy_port, user, password, rdns=True)
    try:
        return await client.connect(host, port, timeout=DIAL_TIMEOUT)
    except ProxyTimeoutError:
        raise DialError("proxy_timeout", f"The proxy {where} did not connect within {DIAL_TIMEOUT:.0f} s.") from None
    except ProxyConnectionError:
        raise DialError("proxy_unreachable", f"The proxy {where} cannot be reached.") from None
    except ProxyError as error:
        text = f"The proxy {where} refused to connect to {host}"
        if error.error_code is not None:
            text += f" (code {error.error_code})"
        raise DialError("proxy_refused", text + "; check its address, user and password.") from None
    except OSError:
        raise DialError("proxy_unreachable", f"The connection to the proxy {where} broke.") from None


def _direct_failure(host: str, error: OSError) -> DialError:
    if isinstance(error, ConnectionRefusedError):
        return DialError("connection_refused", f"{host} refused the connection.")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL):
        return DialError("network_unreachable", f"There is no network route to {host}.")
    return DialError("network_unreachable", f"{host} cannot be reached ({error.strerror or type(error).__name__}).")
