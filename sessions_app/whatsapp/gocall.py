"""One run of the library's blocking call, on a thread of its own, with its callbacks kept alive.

The library calls back with raw pointers, the log callback even after its client has ended; a callback freed too early
ends the process. So a run's callbacks live as long as its thread, and the small log callback for ever.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
import uuid
import weakref
from typing import Any, Protocol

from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.library import EventCallback, Library, LogCallback, ProxySettings, QrCallback

_log = logging.getLogger(__name__)

_STACK = 512 * 1024
#: Seconds the library takes from the end of one event to the next that waits, and some more.
_BETWEEN = 0.001
_starting = threading.Lock()
_log_callbacks: list[Any] = []


class Handler(Protocol):
    """What hears a run. Called on library threads: return at once, never raise."""

    def on_qr(self, text: str) -> None:
        """A QR code to show."""

    def on_status(self, status: str) -> None:
        """The outcome of a pairing."""

    def on_event(self, number: int, data: bytes) -> None:
        """An event, as a protobuf message of the type the number stands for."""

    def on_log(self, data: bytes) -> None:
        """A WARN or ERROR line, as a LogEntry message."""

    def on_return(self, error: str) -> None:
        """The call has ended; nothing follows but log lines."""


class GoCall:
    """One run. A fresh uuid each time, so that nothing of an earlier run can touch it."""

    def __init__(self, library: Library, store: str, proxy_url: str, events: bytes, props: bytes,
                 handler: Handler) -> None:  # fmt: skip
        self.uuid = uuid.uuid4().hex.encode()
        self.started = False
        self._hearing, self._heard_at = False, 0.0  # an event, and when (time.monotonic) the last one was
        self._library = library
        self._proxy = ProxySettings(proxy_url.encode(), False, False, False)
        self._handler = handler
        listener = weakref.ref(handler)

        def on_log(address: int, size: int) -> None:
            target = listener()
            if target is not None and address and size > 0:
                _quietly(target.on_log, ctypes.string_at(address, size))

        log_callback = LogCallback(on_log)
        _log_callbacks.append(log_callback)
        self._arguments = (
            device_store.library_name(store).encode(), self.uuid, b"", 0, 0, b"WARN",
            QrCallback(self._qr), QrCallback(self._status), EventCallback(self._event), log_callback,
            events, len(events), props, len(props), b"", 0, ctypes.byref(self._proxy),
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="whatsapp-client", daemon=True)

    @property
    def telling(self) -> bool:
        """Return whether an event is being heard, or was a moment ago: the next one may be about to come."""
        return self._hearing or time.monotonic() - self._heard_at < _BETWEEN

    def start(self) -> None:
        """Begin. Inside a turn of the library's gate."""
        self.started = True
        with _starting:  # the stack size is a setting of the whole process
            previous = threading.stack_size(_STACK)
            try:
                self._thread.start()
            finally:
                threading.stack_size(previous)

    def stop(self) -> None:
        """Stop and forget the client. Inside a turn of the library's gate; the route must have been aborted."""
        self._library.stop(self.uuid)

    def join(self, timeout: float) -> bool:
        """Return whether the call ended within `timeout` seconds."""
        if self.started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error = self._library.start(*self._arguments)
        _quietly(self._handler.on_return, error)

    def _qr(self, _uuid: int, address: int) -> None:
        _quietly(self._handler.on_qr, ctypes.string_at(address).decode())

    def _status(self, _uuid: int, address: int) -> None:
        _quietly(self._handler.on_status, ctypes.string_at(address).decode())

    def _event(self, _uuid: bytes, address: int, size: int, number: int) -> None:
        self._hearing = True
        _quietly(self._handler.on_event, number, ctypes.string_at(address, size) if size > 0 else b"")
        self._heard_at, self._hearing = time.monotonic(), False


def _quietly(call: Any, *arguments: Any) -> None:
    """Call; an exception must not reach the library."""
    try:
        call(*arguments)
    except Exception:  # noqa: BLE001 - the edge to foreign code
        if not sys.is_finalizing():
            _log.exception("A WhatsApp callback failed")
