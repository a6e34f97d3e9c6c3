"""The server as tests hold it: one object, one thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from .device import Device
from .faults import Faults
from .front import Front
from .library import patched
from .network import Network
from .phone import Phone

T = TypeVar("T")

CALL_WAIT = 60.0
"""Seconds a call from another thread may take."""


class Wasim:
    """A WhatsApp server on loopback. Everything it must remember lives in `folder`.

    All methods may be called from any thread. Times are time.time().
    """

    def __init__(self, folder: Path | str, port: int = 0) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._changed = threading.Condition()
        self.network = Network(self.folder, self._tell)
        self.faults = Faults(self.network, self.call)
        self.loop = asyncio.new_event_loop()
        self._front = Front(self.network)
        self._thread = threading.Thread(target=self._serve, name="wasim", daemon=True)

    def __enter__(self) -> Wasim:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._thread.start()
        try:
            self.port = self.run(self._front.open(self.port))
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """Cut everyone off and end the thread. Idempotent."""
        if self._thread.is_alive():
            self.run(self._front.close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a client here instead of to WhatsApp."""
        return {
            "WHATSAPP_LIBRARY": str(patched(self.folder, self.network.trust.root.public).absolute()),
            "WHATSAPP_PROXY": f"http://127.0.0.1:{self.port}",
            "SSL_CERT_FILE": str(self.network.trust.ca_file.absolute()),
        }

    def phone(self, number: str) -> Phone:
        """Return the phone with this number (digits); it is made up when it is new."""
        self.call(lambda: self.network.account(number))
        return Phone(self.network, number, self.run)

    @property
    def devices(self) -> dict[str, Device]:
        """All linked devices, by address."""
        return self.call(self.network.devices)

    def device(self, jid: str) -> Device:
        """Return a linked device. Raises KeyError for an unknown one."""
        return self.devices[jid]

    def most_live(self, number: str) -> int:
        """Return the most logged-in connections that any one device of a number ever had at the same time."""
        return max((each.max_live_sockets for each in self.devices.values() if each.jid.user == number), default=0)

    def pending(self) -> list[dict[str, Any]]:
        """Return the clients that wait to be scanned: their first reference, and since when."""
        offers = self.call(lambda: {id(offer): offer for offer in self.network.offers.values()})
        return [{"reference": offer.references[0], "since": offer.since} for offer in offers.values()]

    def wait_for(self, predicate: Callable[[], object], timeout: float = 10.0) -> bool:
        """Wait until something holds, looking again whenever the server's state changed; return whether it does."""
        deadline = time.monotonic() + timeout
        while not predicate():
            left = deadline - time.monotonic()
            if left <= 0:
                return bool(predicate())
            with self._changed:
                self._changed.wait(min(left, 0.1))  # a change between the look and the wait costs this much
        return True

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's thread and return its result."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return function()

        async def on_loop() -> T:
            return function()

        return self.run(on_loop())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's thread and return its result; not for that thread itself."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_WAIT)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
