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
from .faults import Faults
from .groups import Group
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

    def unlink(self, device: str = "") -> None:
        """Remove one linked device, by address, or all."""
        self._sim.faults.remove_device(self.number, device)

    def absent(self, absent: bool = True) -> None:
        """Have no WhatsApp, or have it again."""
        self._sim.faults.absent(self.number, absent)

    def picture(self, url: str) -> None:
        """Have a profile picture at this address ("" is none)."""
        self._sim.run(self._sim.server.set_picture(self.number, url))

    def answers(self, read: bool = False, delay: float = 0.0) -> None:
        """Confirm what is sent to the phone itself, as delivered and, with `read`, as read, after `delay` seconds."""
        self._sim.faults.phone_answers(self.number, read, delay)

    def devices(self) -> list[str]:
        """Return the addresses of the linked devices."""
        return [jid for jid, device in self._sim.devices.items() if device.phone == self.number]


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
        self.proxy = Proxy(await self.server.start(), await self.server.media.start(self.server.tls.context))
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

    def make_group(self, number: str, name: str, members: list[str], hidden: bool = False) -> str:
        """Make a group of these numbers, the first its owner; return its address. `hidden`: addressed by LID."""

        async def make() -> str:
            group = self.server.groups[number] = Group(number, name, members, hidden)
            return str(group.jid)

        return self.run(make())

    @property
    def devices(self) -> dict[str, Device]:
        """Return the linked devices by address, "NUMBER:DEVICE@s.whatsapp.net"."""
        return {str(jid): device for jid, device in dict(self.server.devices).items()}

    def device(self, number: str) -> Device:
        """Return the newest linked device of a number, or that with an address. Raises LookupError for none."""
        if "@" in number:
            return self.devices[number]
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

    def pending(self) -> list[dict[str, Any]]:
        """Return the clients that wait for a phone: the code they show first, for which number, since when."""

        async def look() -> list[dict[str, Any]]:
            return [{"ref": p.refs[0], "phone": p.phone, "since": p.since} for p in self.server.pending]

        return self.run(look())

    def add_device(self, jid: str, lid: str, like: Device) -> Device:
        """Know a copy of `like` under another address: see clone.py."""

        async def add() -> Device:
            address = Jid.parse(jid)
            self.server.phone(address.user).devices = address.device
            device = Device(
                address.user, address.device, Jid.parse(lid).user, like.identity, like.account_identity, like.noise,
                prekeys=list(like.prekeys), registration=like.registration, signed_prekey=like.signed_prekey,
            )  # fmt: skip
            self.server.devices[device.jid] = device
            self.server.save()
            return device

        return self.run(add())

    def wait_for(self, what: Callable[[], T], timeout: float = 60) -> T:
        """Return the first true value of `what`. Raises TimeoutError after `timeout` seconds."""
        until = time.monotonic() + timeout
        while not (value := what()):
            if time.monotonic() > until:
                raise TimeoutError("it did not happen in time")
            time.sleep(0.02)
        return value
