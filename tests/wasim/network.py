"""The server's inner state: accounts, connections, pairings under way, troubles. Belongs to the server's thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .account import Account
from .device import Device
from .faults import EVERYONE, Troubles, stream_error
from .jid import HIDDEN_USERS, Jid
from .shelf import Shelf
from .trust import Trust

if TYPE_CHECKING:
    from .connection import Connection
    from .link_code import LinkCode
    from .offer import Offer


class Network:
    """All there is. `changed` is called after anything a test may wait for."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self.trust = Trust(folder)
        self.troubles = Troubles()
        self.changed = changed
        self.connections: set[Connection] = set()
        self.live: dict[Jid, Connection] = {}
        self.offers: dict[str, Offer] = {}
        """Pairings under way, by each reference a QR code may hold."""
        self.link_codes: dict[str, LinkCode] = {}
        """Pairings by an 8-character code, by number."""
        self._shelf = Shelf(folder / "accounts")
        self.accounts = self._shelf.load()
        self._numbers = {account.lid.user: account.number for account in self.accounts.values()}

    def account(self, number: str) -> Account:
        """Return the account of a number, made up when it is new. Raises ValueError for what is no number."""
        if not number.isdecimal():
            raise ValueError(f"a phone number in digits is needed, not {number!r}")
        if number not in self.accounts:
            self.add(Account(number))
        return self.accounts[number]

    def add(self, account: Account) -> None:
        """Know an account from now on."""
        self.accounts[account.number] = account
        self._numbers[account.lid.user] = account.number
        self._shelf.save(account)

    def account_of(self, jid: Jid) -> Account:
        """Return the account behind an address of either kind, made up when it is a new number."""
        number = self._numbers.get(jid.user, "") if jid.server == HIDDEN_USERS else jid.user
        return self.account(number)

    def find(self, jid: Jid) -> Device | None:
        """Return the device with this address of either kind."""
        number = self._numbers.get(jid.user, "") if jid.server == HIDDEN_USERS else jid.user
        account = self.accounts.get(number)
        return account.devices.get(jid.device) if account else None

    def devices(self) -> dict[str, Device]:
        """Return all devices, by address."""
        return {str(device.jid): device for account in self.accounts.values() for device in account.devices.values()}

    def live_of(self, number: str) -> list[Connection]:
        """Return the logged-in connections of a number, or of everyone."""
        return [each for jid, each in self.live.items() if number in (EVERYONE, jid.user)]

    def save(self, device: Device) -> None:
        """Remember a device and its keys beyond this run."""
        account = self.accounts[device.jid.user]
        account.devices[device.jid.device] = device
        self._shelf.save(account)
        self.changed()

    def forget(self, device: Device) -> None:
        """Know a device no longer."""
        account = self.accounts[device.jid.user]
        account.devices.pop(device.jid.device, None)
        self._shelf.save(account)
        self.changed()

    def unlink(self, number: str, index: int | None = None) -> None:
        """Remove the devices of a number, or one of them, and tell those that are connected."""
        account = self.accounts.get(number)
        for device in list(account.devices.values()) if account else ():
            if index in (None, device.jid.device):
                self.forget(device)
                if connection := self.live.get(device.jid):
                    connection.end(stream_error("device_removed"))

    def went_live(self, connection: Connection, device: Device) -> None:
        """Take note of a log-in; an older connection of the same device is replaced."""
        older = self.live.get(device.jid)
        self.live[device.jid] = connection
        device.opened()
        if older is not None:
            older.replace()
        self.changed()

    def gone(self, connection: Connection) -> None:
        """Take note that a connection ended."""
        self.connections.discard(connection)
        device = connection.device
        if device is not None:
            device.closed()
            if self.live.get(device.jid) is connection:
                del self.live[device.jid]
        if connection.offer is not None:
            for reference in connection.offer.references:
                self.offers.pop(reference, None)
        for number, code in list(self.link_codes.items()):
            if code.connection is connection:
                del self.link_codes[number]
        self.changed()
