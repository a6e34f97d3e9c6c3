"""The simulator as tests use it: a server on a thread of its own, phones, faults, counters."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from .device import Device
from .faults import Refusal
from .jid import Jid
from .library import patched
from .proxy import Proxy
from .server import Server

T = TypeVar("T")


class SimPhone:
    """A person's phone, for a test."""

    def __init__(self, sim: Wasim, number: str) -> None:
        self._sim, self.number = sim, number

    def scan(self, text: str, wrong: str = "") -> str:
        """Scan a QR text; return "" when the client accepted, else its error. `wrong`: "", "hmac", "signature".

        Raises ValueError when nobody shows that code.
        """
        return self._sim.run(self._sim.server.scan(self.number, text, wrong))

    def enter_code(self, code: str) -> str:
        """Enter an 8-character code; return "" when it was right, else the error."""
        return self._sim.run(self._sim.server.enter_code(self.number, code))

    def unlink(self) -> None:
        """Remove every linked device of this number."""
        self._sim.faults.remove_device(self.number)


class Faults:
    """Everything that can be made to go wrong. A phone of "" means all."""

    def __init__(self, sim: Wasim) -> None:
        self._sim = sim

    def drop(self, phone: str = "") -> int:
        """Cut the sockets without a goodbye; return how many."""

        async def cut() -> int:
            live = [connection for device in self._sim.server.of(phone) for connection in device.live]
            for connection in live:
                connection.abort()
            return len(live)

        return self._sim.run(cut())

    def refuse(self, phone: str, code: int | None, times: int = -1, expire: int = 3600) -> None:
        """Refuse log-ins with a failure code (None: no more); 402 says it expires in `expire` seconds."""
        attributes = {"code": "101", "expire": str(expire)} if code == 402 else {}
        self._rule(lambda rules: _put(rules.refusals, phone, Refusal(code, times, attributes) if code else None))

    def refuse_pairing(self, code: int | None) -> None:
        """Refuse clients that want to pair."""
        self._rule(lambda rules: setattr(rules, "pairing_refusal", code))

    def refuse_codes(self, refuse: bool) -> None:
        """Give no 8-character codes."""
        self._rule(lambda rules: setattr(rules, "refuse_codes", refuse))

    def remove_device(self, phone: str) -> None:
        """Unlink the devices of a number, as its owner can on the phone."""

        async def remove() -> None:
            for device in self._sim.server.of(phone):
                self._sim.server.forget(device)
                for connection in list(device.live):
                    await connection.stream_error("401", "device_removed")

        self._sim.run(remove())

    def stream_error(self, phone: str, code: str = "", conflict: str = "") -> None:
        """Close the streams of a number with this error."""

        async def send() -> None:
            for device in self._sim.server.of(phone):
                for connection in list(device.live):
                    await connection.stream_error(code, conflict)

        self._sim.run(send())

    def silence(self, phone: str, silent: bool) -> None:
        """Answer nothing any more, with the sockets left open."""

        async def change() -> None:
            _mark(self._sim.server.rules.silenced, phone, silent)
            for device in self._sim.server.of(phone):
                for connection in device.live:
                    connection.silent = silent

        self._sim.run(change())

    def conflict(self, phone: str, holding: bool) -> None:
        """While it holds, another client with the same keys takes every log-in over at once."""

        async def change() -> None:
            _mark(self._sim.server.rules.conflicts, phone, holding)

        self._sim.run(change())
        if holding:
            self.stream_error(phone, conflict="replaced")

    def withhold_acks(self, phone: str, withhold: bool) -> None:
        """Take messages and never acknowledge them."""
        self._rule(lambda rules: _mark(rules.withheld_acks, phone, withhold))

    def ack_error(self, phone: str, code: int | None) -> None:
        """Acknowledge messages with an error (463 restricted, 479)."""
        self._rule(lambda rules: _put(rules.ack_errors, phone, code))

    def delay(self, seconds: float) -> None:
        """Wait before every answer."""
        self._rule(lambda rules: setattr(rules, "delay", seconds))

    def break_network(self, how: str) -> None:
        """New connections are "refused", a "blackhole", "mute" (open, never answered), or work again ("")."""
        self._sim.proxy.broken = how

    def _rule(self, change: Callable[[Any], Any]) -> None:
        async def apply() -> None:
            change(self._sim.server.rules)

        self._sim.run(apply())


class Wasim:
    """The simulator. What it knows (keys, phones, devices) lives in `folder` and outlives it."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._wanted_port = port
        self.faults = Faults(self)

    def __enter__(self) -> Wasim:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wasim", daemon=True)
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self.server = Server(self._folder)
        self.proxy = Proxy(await self.server.start())
        self.port = await self.proxy.start(self._wanted_port)

    async def _stop(self) -> None:
        self.proxy.close()
        await self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the simulator's loop and return the result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a client here."""
        return {
            "WHATSAPP_LIBRARY": str(patched(self._folder, self.server.root.public)),
            "WHATSAPP_PROXY": f"http://127.0.0.1:{self.port}",
            "SSL_CERT_FILE": str(self.server.tls.authority),
        }

    def phone(self, number: str) -> SimPhone:
        """Return the phone with this number (digits)."""
        return SimPhone(self, number)

    @property
    def devices(self) -> dict[str, Device]:
        """Return the linked devices by address, "NUMBER:DEVICE@s.whatsapp.net"."""
        return {str(jid): device for jid, device in dict(self.server.devices).items()}

    def device(self, number: str) -> Device:
        """Return the newest linked device of a number. Raises LookupError when there is none."""
        found = [device for device in dict(self.server.devices).values() if device.phone == number]
        if not found:
            raise LookupError(f"no device is linked to {number}")
        return max(found, key=lambda device: device.number)

    def most_live(self, number: str) -> int:
        """Return the most sockets any device of this number ever had at once."""
        return max((device.max_live_sockets for device in self.server.of(number)), default=0)

    def live(self) -> int:
        """Return how many sockets are logged in now."""
        return sum(device.live_sockets for device in dict(self.server.devices).values())

    def add_device(self, jid: str, lid: str, like: Device) -> Device:
        """Know a copy of `like` under another address: see clone.py."""

        async def add() -> Device:
            address = Jid.parse(jid)
            self.server.phone(address.user).devices = address.device
            device = Device(address.user, address.device, Jid.parse(lid).user, like.identity, like.account_identity)
            self.server.devices[device.jid] = device
            self.server.save()
            return device

        return self.run(add())

    def wait_for(self, what: Callable[[], T], timeout: float = 20) -> T:
        """Return the first true value of `what`. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while not (value := what()):
            if time.monotonic() > until:
                raise TimeoutError("it did not happen in time")
            time.sleep(0.02)
        return value


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _mark(which: set[str], key: str, on: bool) -> None:
    if on:
        which.add(key)
    else:
        which.discard(key)
