"""A cable that can be cut: a TCP proxy, to cut one process off from a server the others still reach."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Cable:
    """Leads from where `end` listens to a target.

    Cut, it is silent: nothing arrives, nothing is refused, not even that one end is gone, as when a switch dies.
    """

    def __init__(self, host: str, port: int, end: socket.socket) -> None:
        self._target = (host, port)
        self._end = end
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
        if not self._plugged.is_set():
            self._reset()

    def close(self) -> None:
        """Take it away."""
        self._closed = True
        self._reset()
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for the next connection
        self._end.close()

    def _reset(self) -> None:
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._plugged.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _address = self._end.accept()
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
                        try:
                            data = source.recv(65536)
                        except OSError:  # reset: no less silent than an orderly end
                            data = b""
                        self._plugged.wait()
                        if not data:
                            return
                        key.data.sendall(data)
