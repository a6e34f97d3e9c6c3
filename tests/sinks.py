"""What alerts are sent to in tests: an HTTP receiver and a mail server on loopback that keep what they get."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sink:
    """`received`: JSON bodies, or mails. `refuse` makes it answer with an error; `delay` seconds before it answers."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.refuse, self.delay, self.port = False, 0.0, 0


@contextmanager
def http_sink() -> Iterator[Sink]:
    """Take JSON by POST: json://127.0.0.1:PORT/any/path."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(sink.delay)
            if not sink.refuse:
                sink.received.append(json.loads(body))
            self.send_response(503 if sink.refuse else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), sink):
        yield sink


@contextmanager
def _serving(server: socketserver.TCPServer, sink: Sink) -> Iterator[None]:
    """Have a server take what comes on a thread of its own, until the block ends."""
    with server:
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Mails(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


@contextmanager
def smtp_sink() -> Iterator[Sink]:
    """Take mail: mailto://127.0.0.1:PORT?from=a@example.com&to=b@example.com."""
    sink = Sink()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline().decode().strip():
                verb = line.split(":")[0].split(" ")[0].upper()
                if verb == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(text)
                    sink.received.append(message_from_string("\n".join(lines)))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                elif verb == "RCPT" and sink.refuse:
                    self.say("550 5.1.1 no such mailbox")
                else:
                    self.say("250 sink")

    with _serving(_Mails(("127.0.0.1", 0), Handler), sink):
        yield sink


def text_of(mail: Message) -> str:
    """Return the plain text of a mail."""
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            return payload.decode()
    return ""
