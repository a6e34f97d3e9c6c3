"""A cable that can be cut: a TCP proxy on loopback, to cut one process off from a server the others still reach."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Cable:
    """Leads from `port` to a target. Cut, it is silent: nothing arrives, nothing is refused, as when a switch dies."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._plugged = threading.Event()
        self._plugged.set()
        self._ends: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing gets through, in neither direction."""
        self._plugged.clear()

    def mend(self) -> None:
        """Let things through again. What was open when it was cut is reset, as after any long cut."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._plugged.set()

    def close(self) -> None:
        """Take it away."""
        self._closed = True
        self.mend()
        self._server.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _address = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self._ends.add(near)
        with near, contextlib.suppress(OSError):
            self._plugged.wait()
            with socket.create_connection(self._target, timeout=10) as far, selectors.DefaultSelector() as watched:
                self._ends.add(far)
                watched.register(near, selectors.EVENT_READ, far)
                watched.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _events in watched.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(65536)
                        self._plugged.wait()
                        if not data:
                            return
                        key.data.sendall(data)
