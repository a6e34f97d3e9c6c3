"""The loopback relay: who may use it, what it forwards, how it is cut."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sessions_app.whatsapp import relay as relay_module
from sessions_app.whatsapp import tunnel, upstream
from sessions_app.whatsapp.records import Records
from sessions_app.whatsapp.relay import Relay, Route
from sessions_app.whatsapp.tunnel import LAST_WORD
from sessions_app.whatsapp.upstream import DialError, parse_proxy

WHATSAPP = "web.whatsapp.com:443"


class Echo:
    """A proxy on loopback that accepts any CONNECT and echoes what follows; counts its connections."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", echo: bool = True) -> None:
        self._answer, self._echo = answer, echo
        self._server = socket.create_server(("127.0.0.1", 0), backlog=600)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.heads: list[bytes] = []
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            self.heads.append(head)
            connection.sendall(self._answer)
            while self._echo and (data := connection.recv(65536)):
                connection.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        self._server.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


_opened: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    close_sockets()


def close_sockets() -> None:
    """Close what `connect` opened."""
    while _opened:
        _opened.pop().close()


def connect(
    relay: Relay, route: Route, target: str = WHATSAPP, token: str | None = None
) -> tuple[socket.socket, bytes]:
    """Return a socket after a CONNECT through the relay, and the status line it got."""
    sock = socket.create_connection(("127.0.0.1", relay.port), timeout=5)
    _opened.append(sock)
    secret = base64.b64encode(f"{route.name}:{token or route.token}".encode()).decode()
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {secret}\r\n\r\n".encode())
    return sock, receive(sock)


def receive(sock: socket.socket) -> bytes:
    """Return what arrives next; b"" for an end of any kind."""
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


def until(condition: Callable[[], bool]) -> None:
    """Wait until this holds; at most 5 s."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bytes_pass_both_ways_through_an_authorised_tunnel(relay: Relay, echo: Echo) -> None:
    sock, status = connect(relay, relay.open(echo.url))
    assert status.startswith(b"HTTP/1.1 200")
    sock.sendall(b"hello")
    assert receive(sock) == b"hello"
    sock.close()


def test_a_wrong_token_or_an_unknown_name_is_refused(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    assert connect(relay, route, token="guess")[1].startswith(b"HTTP/1.1 407")
    route.name = "nobody"
    assert connect(relay, route)[1].startswith(b"HTTP/1.1 407")
    assert echo.heads == []


def test_only_port_443_is_reached(relay: Relay, echo: Echo) -> None:
    assert connect(relay, relay.open(echo.url), "127.0.0.1:22")[1].startswith(b"HTTP/1.1 403")
    assert echo.heads == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "localhost", "example.org", "whatsapp.net.example.org", "awhatsapp.net", "whatsapp.org"]
)
def test_no_message_leads_the_library_to_a_host_that_is_not_whatsapps(relay: Relay, echo: Echo, host: str) -> None:
    assert connect(relay, relay.open(echo.url), f"{host}:443")[1].startswith(b"HTTP/1.1 403")
    assert echo.heads == []


def test_a_file_without_end_is_cut_off(relay: Relay, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MOST", 100_000)
    sock, _ = connect(relay, relay.open(echo.url), "mmg.whatsapp.net:443")
    arrived = 0
    for _ in range(50):
        try:
            sock.sendall(b"x" * 10_000)
        except ConnectionError:
            break
        data = receive(sock)
        arrived += len(data)
        if not data:
            break
    assert arrived <= 100_000


@pytest.mark.parametrize(
    "request_head", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"CONNECT x:y HTTP/1.1\r\n\r\n"]
)
def test_anything_but_a_connect_is_refused(relay: Relay, request_head: bytes) -> None:
    relay.open()
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as sock:
        sock.sendall(request_head)
        assert receive(sock).startswith(b"HTTP/1.1 400")


def test_a_connection_that_says_nothing_is_closed(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "_HEAD_TIMEOUT", 0.05)
    relay.open()
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as sock:
        assert receive(sock) == b""


def test_the_first_connect_uses_the_tunnel_opened_before(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    route.dial()
    sock, _ = connect(relay, route)
    assert len(echo.heads) == 1
    sock.sendall(b"x")
    assert receive(sock) == b"x"
    second, _ = connect(relay, route)
    assert len(echo.heads) == 2
    sock.close()
    second.close()


def test_a_tunnel_opened_before_that_has_gone_is_dialled_again(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    route.dial()
    echo.connections[0].shutdown(socket.SHUT_RDWR)
    until(lambda: route._opened is not None and not route._opened[0].usable())
    assert connect(relay, route)[1].startswith(b"HTTP/1.1 200")
    assert len(echo.heads) == 2


def test_a_tunnel_opened_too_long_ago_is_dialled_again(
    relay: Relay, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "FRESH", 0.0)
    route = relay.open(echo.url)
    route.dial()
    assert connect(relay, route)[1].startswith(b"HTTP/1.1 200")
    assert len(echo.heads) == 2


def test_abort_cuts_every_tunnel_and_refuses_new_ones(relay: Relay, echo: Echo) -> None:
    route, other = relay.open(echo.url), relay.open(echo.url)
    socks = [connect(relay, route)[0] for _ in range(3)]
    spared, _ = connect(relay, other)
    route.abort()
    assert [receive(sock) for sock in socks] == [b""] * 3
    assert connect(relay, route)[1].startswith(b"HTTP/1.1 403")
    with pytest.raises(DialError) as failed:
        route.dial()
    assert failed.value.reason == "stopped"
    spared.sendall(b"still here")
    assert receive(spared) == b"still here"


def test_abort_ends_a_dial_that_hangs(relay: Relay) -> None:
    hanging = Echo(answer=b"", echo=False)
    route = relay.open(hanging.url)
    failures: list[str] = []

    def dial() -> None:
        try:
            route.dial()
        except DialError as error:
            failures.append(error.reason)

    thread = threading.Thread(target=dial)
    thread.start()
    until(lambda: len(hanging.heads) == 1)
    route.abort()
    thread.join(2)
    assert failures == ["stopped"]
    hanging.close()


def test_when_whatsapp_closes_the_library_s_side_closes_after_the_last_byte(relay: Relay) -> None:
    goodbye = Echo(answer=b"HTTP/1.1 200 OK\r\n\r\n", echo=False)
    sock, _ = connect(relay, relay.open(goodbye.url))
    until(lambda: len(goodbye.connections) == 1)
    goodbye.connections[0].sendall(b"goodbye")
    goodbye.connections[0].shutdown(socket.SHUT_RDWR)
    assert receive(sock) == b"goodbye"
    assert receive(sock) == b""
    goodbye.close()


def record(kind: int, size: int) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes(size)


@pytest.mark.parametrize("goodbye", [record(21, 2), record(23, 19)])
def test_the_goodbye_inside_tls_comes_a_moment_after_the_last_word(relay: Relay, goodbye: bytes) -> None:
    server = Echo(answer=b"HTTP/1.1 200 OK\r\n\r\n", echo=False)
    sock, _ = connect(relay, relay.open(server.url))
    until(lambda: len(server.connections) == 1)
    server.connections[0].sendall(record(23, 100) + goodbye)
    assert receive(sock) == record(23, 100)
    began = time.monotonic()
    assert receive(sock) == goodbye
    assert time.monotonic() - began > LAST_WORD / 2
    server.connections[0].sendall(record(23, 50))
    assert receive(sock) == record(23, 50)
    server.close()


def test_records_are_told_apart_wherever_the_stream_is_cut() -> None:
    earlier, head = record(22, 70) + record(23, 300), 5
    stream = earlier + record(23, 19)
    for cut in range(len(earlier) + head):
        records = Records()
        before = records.before_goodbye(stream[:cut]) + records.before_goodbye(stream[cut:])
        assert before == max(len(earlier), cut)  # of its head, what came alone has passed


def test_silence_counts_from_the_last_byte_received(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    sock, _ = connect(relay, route)
    route._last_received -= 100
    assert route.silent_for() >= 100
    sock.sendall(b"x")
    assert receive(sock) == b"x"
    assert route.silent_for() < 5


def test_traffic_to_media_hosts_is_no_sign_of_life(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    sock, _ = connect(relay, route, "mmg.whatsapp.net:443")
    route._last_received -= 100
    sock.sendall(b"x")
    assert receive(sock) == b"x"
    assert route.silent_for() >= 100


def told(relay: Relay, echo: Echo) -> tuple[socket.socket, socket.socket, list[bool]]:
    """Return both ends of a tunnel through which something has come, and whether the library is telling us of it."""
    route, telling = relay.open(echo.url), [True]
    route.telling = lambda: telling[0]
    library, _ = connect(relay, route)
    whatsapp = echo.connections[0]
    whatsapp.settimeout(5)
    whatsapp.sendall(b"a message")
    assert receive(library) == b"a message"
    return library, whatsapp, telling


def test_the_library_confirms_nothing_while_it_tells_us_of_it(relay: Relay) -> None:
    echo = Echo(echo=False)
    library, whatsapp, telling = told(relay, echo)
    library.sendall(b"it ")
    library.sendall(b"arrived")
    whatsapp.settimeout(0.2)
    with pytest.raises(TimeoutError):
        whatsapp.recv(100)
    telling[0] = False
    heard = b""
    while len(heard) < len(b"it arrived"):
        heard += whatsapp.recv(100)
    assert heard == b"it arrived"
    echo.close()


def test_the_library_confirms_nothing_it_had_no_time_to_tell_us_of(relay: Relay) -> None:
    """The process gets no processor time for longer than the relay waits; the library tells us right after."""
    echo = Echo(echo=False)
    library, whatsapp, telling = told(relay, echo)
    telling[0] = False

    def starve() -> None:
        library.sendall(b"it arrived")
        asyncio.get_running_loop().call_later(tunnel._AFTERTHOUGHT / 2, starved)

    def starved() -> None:
        time.sleep(10 * tunnel._AFTERTHOUGHT)
        asyncio.get_running_loop().call_later(tunnel._AFTERTHOUGHT / 4, tell)

    def tell() -> None:
        telling[0] = True

    relay.soon(starve)
    until(lambda: telling[0])
    whatsapp.settimeout(0.2)
    with pytest.raises(TimeoutError):
        whatsapp.recv(100)
    telling[0] = False
    assert receive(whatsapp) == b"it arrived"
    echo.close()


def test_what_was_to_be_said_is_said_before_the_end(relay: Relay) -> None:
    echo = Echo(echo=False)
    library, whatsapp, telling = told(relay, echo)
    library.sendall(b"goodbye")
    library.close()
    until(lambda: not _open(relay))
    telling[0] = False
    assert receive(whatsapp) == b"goodbye"
    assert receive(whatsapp) == b""
    echo.close()


def _open(relay: Relay) -> bool:
    """Return whether a library's side is still open."""
    return any(isinstance(end, tunnel.Inbound) and end.transport is not None
               for route in relay._routes.values() for end in route._tunnels)  # fmt: skip


def test_after_a_long_silence_there_is_nothing_to_confirm(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "_NOTHING_LEFT", 0)
    echo = Echo(echo=False)
    library, whatsapp, _ = told(relay, echo)
    library.sendall(b"are you there?")
    assert receive(whatsapp) == b"are you there?"
    echo.close()


def test_a_slow_reader_slows_the_sender_down_instead_of_filling_memory(relay: Relay, echo: Echo) -> None:
    route = relay.open(echo.url)
    sock, _ = connect(relay, route)
    sock.setblocking(False)
    sent, blocked_since = 0, None
    while blocked_since is None or time.monotonic() - blocked_since < 0.3:
        try:
            sent += sock.send(b"x" * 65536)
            blocked_since = None
        except BlockingIOError:
            blocked_since = blocked_since or time.monotonic()
            time.sleep(0.01)
        assert sent < 100_000_000
    sock.settimeout(5)
    received = 0
    while received < sent:
        received += len(receive(sock))
    assert received == sent


def test_five_hundred_tunnels_stand_at_once(relay: Relay, echo: Echo) -> None:
    threads = threading.active_count()
    routes = [relay.open(echo.url) for _ in range(500)]
    socks = [connect(relay, route)[0] for route in routes]
    for number, sock in enumerate(socks):
        sock.sendall(b"%d" % number)
    assert [receive(sock) for sock in socks] == [b"%d" % number for number in range(500)]
    ours = threading.active_count() - threads - len(echo.connections)
    assert ours <= 8  # none per tunnel; a few may have looked up names
    for sock in socks:
        sock.close()
    until(lambda: not any(route._tunnels for route in routes))


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_dead_proxy_is_told_apart_from_one_that_refuses(relay: Relay) -> None:
    refusing = Echo(answer=b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", echo=False)
    reasons = []
    for proxy in (f"http://user:secret@127.0.0.1:{refused_port()}", refusing.url.replace("//", "//user:secret@"),
                  "https://127.0.0.1:1", "socks5://"):  # fmt: skip
        with pytest.raises(DialError) as failed:
            relay.open(proxy).dial()
        assert "secret" not in str(failed.value)
        reasons.append(failed.value.reason)
    assert reasons == ["proxy_unreachable", "proxy_refused", "proxy_invalid", "proxy_invalid"]
    refusing.close()


def test_a_proxy_that_never_answers_costs_a_bounded_time(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "DIAL_TIMEOUT", 0.2)
    silent = Echo(answer=b"", echo=False)
    with pytest.raises(DialError) as failed:
        relay.open(silent.url).dial()
    assert failed.value.reason == "proxy_timeout"
    silent.close()


def test_without_a_network_the_reason_is_exact(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "WHATSAPP_HOST", "whatsapp.invalid")
    with pytest.raises(DialError) as failed:
        relay.open().dial()
    assert failed.value.reason == "dns"
    monkeypatch.setattr(relay_module, "WHATSAPP_HOST", "127.0.0.1")
    with pytest.raises(DialError) as failed:
        relay.open().dial()
    assert failed.value.reason == "connection_refused"


def test_proxy_credentials_are_sent_decoded(relay: Relay, echo: Echo) -> None:
    relay.open(echo.url.replace("//", "//us%40er:p%3Ass@")).dial()
    assert base64.b64encode(b"us@er:p:ss") in echo.heads[0]
    assert parse_proxy("socks5://h")[2] == 1080


def socks_server(heads: list[bytes], accepted: bytes) -> tuple[socket.socket, str]:
    """Return a SOCKS5 proxy for one connection, which wants a password, and its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"\x05\x02")
            heads.append(connection.recv(100))
            connection.sendall(b"\x01\x00")
            heads.append(connection.recv(100))
            connection.sendall(b"\x05" + accepted + b"\x00\x01\x00\x00\x00\x00\x00\x00")
            receive(connection)

    threading.Thread(target=serve, daemon=True).start()
    return server, f"socks5://me:secret@127.0.0.1:{server.getsockname()[1]}"


def test_a_socks_proxy_gets_the_password_and_the_name_itself(relay: Relay) -> None:
    heads: list[bytes] = []
    server, url = socks_server(heads, b"\x00")
    with server:
        relay.open(url).dial()
    assert heads[0] == b"\x01\x02me\x06secret"
    assert b"web.whatsapp.com" in heads[1]


def test_a_socks_proxy_that_refuses_is_named(relay: Relay) -> None:
    server, url = socks_server([], b"\x02")
    with server, pytest.raises(DialError) as failed:
        relay.open(url).dial()
    assert failed.value.reason == "proxy_refused"
    assert "secret" not in str(failed.value)


def test_closing_ends_the_thread_and_every_tunnel(echo: Echo) -> None:
    relay = Relay()
    route = relay.open(echo.url)
    sock, _ = connect(relay, route)
    relay.close()
    relay.close()
    assert receive(sock) == b""
    assert not any(thread.name == "whatsapp-relay" for thread in threading.enumerate())
    with pytest.raises(DialError):
        route.dial()
