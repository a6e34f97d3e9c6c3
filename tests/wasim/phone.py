"""A phone in a test's hand: it scans codes, types them in, and unlinks devices."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from .device import Device
from .network import Network
from .offer import QrCode, ScanError


class Phone:
    """The phone with one number. The methods may be called from any thread and wait for the outcome."""

    def __init__(self, network: Network, number: str, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._network, self.number, self._run = network, number, run

    def scan(self, text: str, wrong: str = "") -> str:
        """Scan a QR code; return the new device's address, or "" when the client refused.

        `wrong` spoils the phone's answer: "hmac" or "signature". Raises ScanError for a code nobody shows.
        """
        device: Device | None = self._run(self._scan(text, wrong))
        return str(device.jid) if device else ""

    def enter_code(self, code: str) -> str:
        """Type in the 8 characters a client shows for this number; return as `scan`.

        Raises ScanError for a wrong code, or when no client shows one.
        """
        device: Device | None = self._run(self._enter(code))
        return str(device.jid) if device else ""

    def unlink(self, device: str | int | None = None) -> None:
        """Unlink a device, by address or number; all of them without one."""
        index = int(device.partition("@")[0].partition(":")[2] or 0) if isinstance(device, str) else device
        self._run(self._unlink(index))

    def devices(self) -> list[str]:
        """Return the addresses of the linked devices."""
        account = self._network.accounts.get(self.number)
        return [str(device.jid) for device in list(account.devices.values())] if account else []

    async def _scan(self, text: str, wrong: str) -> Device | None:
        code = QrCode.parse(text)
        offer = self._network.offers.get(code.reference)
        if offer is None:
            raise ScanError("nobody shows this code (any more)")
        return await offer.pair(self._network.account(self.number), code.identity, code.secret, wrong)

    async def _enter(self, code: str) -> Device | None:
        pending = self._network.link_codes.get(self.number)
        if pending is None:
            raise ScanError("no device asked for a code for this number")
        return await pending.enter(self._network.account(self.number), code)

    async def _unlink(self, index: int | None) -> None:
        self._network.unlink(self.number, index)
