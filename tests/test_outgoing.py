"""Calls to addresses that others gave us: what is refused, and that what was checked is what is called."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import trustme
from pytest_django.fixtures import Settings  # type: ignore[attr-defined]

from messaging import outgoing
from messaging.errors import Refused
from messaging.outgoing import CallFailed, Line, check, fetch, is_public

PUBLIC = "8.8.8.8"  # nothing is sent there: connections to it are led to the test's own server
SOON = timedelta(seconds=5)


class Server:
    """An https server on loopback that answers as told and counts."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.answers.get(self.path, greet)(self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("public.example", "other.example").configure_cert(context)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def greet(handler: http.server.BaseHTTPRequestHandler) -> None:
    reply(handler, 200, b"hello")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Every public address is this server; loopback addresses stay what they are."""
    server = Server()
    really = socket.create_connection

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        return really(("127.0.0.1", server.port) if address[0] == PUBLIC else address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(outgoing, "_contexts", [server.client])
    yield server
    server.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Host names and the addresses they have, one after the other where there are several look-ups."""
    table = {"public.example": [PUBLIC], "other.example": [PUBLIC]}
    really = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in table:
            return really(host, port, *args, **kwargs)
        address = table[host].pop(0) if len(table[host]) > 1 else table[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in address.split()]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


def refusal(url: str) -> str:
    with pytest.raises(Refused) as refused:
        check(url)
    return refused.value.code


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://0.0.0.0/", "https://127.1/", "https://2130706433/",
        "https://0x7f000001/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::]/",
        "https://10.0.0.1/", "https://172.16.0.1/", "https://192.168.1.1/", "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/", "https://[fe80::1]/",
        "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/", "https://100.100.100.200/",
    ],
)  # fmt: skip
def test_private_loopback_and_metadata_addresses_are_refused(url: str) -> None:
    assert refusal(url) in ("url_private", "url_unresolved")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://public.example/", "url_not_https"), ("file:///etc/passwd", "url_not_https"),
        ("ftp://public.example/", "url_not_https"), ("gopher://public.example/", "url_not_https"),
        ("https://user:password@public.example/", "url_invalid"), ("https:///x", "url_invalid"),
        ("https://public.example:99999/", "url_invalid"), ("https://public.example/\r\nX: y", "url_invalid"),
        ("https://public.example\\@127.0.0.1/", "url_invalid"), ("https://" + "a" * 2000, "url_invalid"),
        ("https://no-such-host.invalid/", "url_unresolved"), ("", "url_not_https"),
    ],
)  # fmt: skip
def test_what_is_no_https_address_is_refused(names: dict[str, list[str]], url: str, code: str) -> None:
    assert refusal(url) == code


def test_public_addresses_are_told_from_others() -> None:
    assert all(map(is_public, ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"]))
    assert not any(map(is_public, ["192.0.2.1", "::ffff:10.0.0.1", "fc00::1", "255.255.255.255", "no", "fe80::1%e"]))


def test_a_name_with_one_private_address_among_public_ones_is_refused(names: dict[str, list[str]]) -> None:
    names["public.example"] = [f"{PUBLIC} 10.0.0.1"]
    assert refusal("https://public.example/") == "url_private"


def test_a_public_address_is_fetched(server: Server, names: dict[str, list[str]]) -> None:
    assert fetch("https://public.example/a?b=c", 100, SOON).body == b"hello"
    assert server.paths == ["/a?b=c"]


def test_a_name_that_changes_after_the_check_gains_nothing(
    server: Server, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first look-up is public, every later one is loopback, where a server listens."""
    names["public.example"] = [PUBLIC, "127.0.0.1"]
    connected: list[str] = []
    led = socket.create_connection

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        connected.append(address[0])
        return led(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect)
    url = f"https://public.example:{server.port}/"
    assert fetch(url, 100, SOON).body == b"hello"
    assert connected == [PUBLIC]  # the name was not looked up again to connect
    with pytest.raises(Refused, match="url_private"):
        fetch(url, 100, SOON)
    assert connected == [PUBLIC]


@pytest.mark.parametrize(
    "where",
    ["https://127.0.0.1/", "https://169.254.169.254/", "http://public.example/", "file:///etc/passwd", "//localhost/"],
)
def test_a_redirect_is_checked_like_the_first_address(server: Server, names: dict[str, list[str]], where: str) -> None:
    server.answers["/go"] = lambda handler: reply(handler, 302, Location=where)
    with pytest.raises(Refused):
        fetch("https://public.example/go", 100, SOON)
    assert server.paths == ["/go"]


def test_redirects_are_followed_three_times_and_never_when_posting(server: Server, names: dict[str, list[str]]) -> None:
    server.answers["/1"] = lambda handler: reply(handler, 302, Location="https://other.example/2")
    assert fetch("https://public.example/1", 100, SOON).body == b"hello"
    server.answers["/loop"] = lambda handler: reply(handler, 302, Location="/loop")
    with pytest.raises(CallFailed, match="too often"):
        fetch("https://public.example/loop", 100, SOON)
    with contextlib.closing(Line(SOON, 100)) as line:
        assert line.call("POST", "https://public.example/1", body=b"").status == 302
    assert server.paths == ["/1", "/2", *["/loop"] * 4, "/1"]


def test_what_is_too_large_is_refused_whether_or_not_it_says_so(server: Server, names: dict[str, list[str]]) -> None:
    server.answers["/said"] = lambda handler: reply(handler, 200, b"x" * 200)
    server.answers["/hidden"] = lambda handler: _chunked(handler, 20)
    for path in ("/said", "/hidden"):
        with pytest.raises(Refused, match="media_too_large"):
            fetch(f"https://public.example{path}", 100, SOON)
    assert fetch("https://public.example/said", 200, SOON).body == b"x" * 200


def _chunked(handler: http.server.BaseHTTPRequestHandler, chunks: int) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(chunks):
        handler.wfile.write(b"a\r\nxxxxxxxxxx\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def test_one_that_answers_drop_by_drop_is_cut_off(server: Server, names: dict[str, list[str]]) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"x")
                time.sleep(0.05)

    server.answers["/drip"] = drip
    began = time.monotonic()
    with pytest.raises(CallFailed, match="in time"):
        fetch("https://public.example/drip", 10_000, timedelta(seconds=0.5))
    assert time.monotonic() - began < 5


def test_a_wrong_certificate_and_a_wrong_status_are_said(server: Server, names: dict[str, list[str]]) -> None:
    names["wrong.example"] = [PUBLIC]
    with pytest.raises(CallFailed, match="certificate"):
        fetch("https://wrong.example/", 100, SOON)
    server.answers["/404"] = lambda handler: reply(handler, 404)
    with pytest.raises(CallFailed, match="404"):
        fetch("https://public.example/404", 100, SOON)


def test_one_connection_carries_many_calls_and_its_loss_is_mended(server: Server, names: dict[str, list[str]]) -> None:
    line = Line(SOON, 100)
    ports: set[int] = set()

    def note(handler: http.server.BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        reply(handler, 200)

    def end(handler: http.server.BaseHTTPRequestHandler) -> None:
        reply(handler, 200)
        handler.close_connection = True  # without saying so

    server.answers |= {"/port": note, "/end": end}
    for _ in range(3):
        line.call("POST", "https://public.example/port", body=b"x")
    assert len(ports) == 1
    line.call("POST", "https://public.example/end", body=b"x")
    assert line.call("POST", "https://public.example/port", body=b"x").status == 200
    assert len(ports) == 2
    line.close()


def test_private_addresses_are_called_only_by_setting(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_URLS = True
    check("http://127.0.0.1:9/")
