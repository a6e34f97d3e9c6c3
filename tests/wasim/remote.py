"""The simulator in another process, held as if it were here: speaks to its HTTP control."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

WAIT = 90.0
"""Seconds one call may take."""


class RemoteFaults:
    """Has the methods of faults.Faults, with the same arguments, by name only."""

    def __init__(self, client: WasimClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return what causes the fault of this name. An unknown one raises ValueError when called."""
        return lambda **arguments: self._client.call(f"faults.{name}", **arguments)


class RemotePhone:
    """A phone there; see wasim.SimPhone."""

    def __init__(self, client: WasimClient, number: str) -> None:
        self._client, self.number = client, number

    def scan(self, text: str, wrong: str = "") -> str:
        """Scan a QR text; return "" or the client's error. Raises ValueError when nobody shows it."""
        return str(self._client.call("scan", phone=self.number, text=text, wrong=wrong))

    def enter_code(self, code: str) -> str:
        """Type in an 8-character code; return "" or the error."""
        return str(self._client.call("enter_code", phone=self.number, code=code))

    def unlink(self, device: str = "") -> None:
        """Unlink one device, by address, or all."""
        self._client.call("unlink", phone=self.number, device=device)

    def devices(self) -> list[str]:
        """Return the addresses of the linked devices."""
        return [jid for jid in self._client.devices if jid.partition(":")[0] == self.number]


class WasimClient:
    """Holds the simulator at this address (see control.Control). Raises ValueError for what it refuses."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self.faults = RemoteFaults(self)

    def phone(self, number: str) -> RemotePhone:
        """Return the phone with this number (digits)."""
        return RemotePhone(self, number)

    @property
    def devices(self) -> dict[str, dict[str, Any]]:
        """Return the counters of the linked devices, by address; see device.Device."""
        return {device["jid"]: device for device in self.call("state")["devices"]}

    def device(self, number: str) -> dict[str, Any]:
        """Return the counters of the newest device of a number, or of that address. Raises LookupError for none."""
        found = [device for jid, device in self.devices.items() if number in (jid, jid.partition(":")[0])]
        if not found:
            raise LookupError(f"no device is linked to {number}")
        return found[-1]

    def pending(self) -> list[dict[str, Any]]:
        """Return the clients that wait for a phone."""
        waiting: list[dict[str, Any]] = self.call("state")["pending"]
        return waiting

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a client to the simulator."""
        variables: dict[str, str] = self.call("environment")
        return variables

    def wait_for(self, what: Callable[[], T], timeout: float = 60) -> T:
        """Return the first true value of `what`. Raises TimeoutError after `timeout` seconds."""
        until = time.monotonic() + timeout
        while not (value := what()):
            if time.monotonic() > until:
                raise TimeoutError("it did not happen in time")
            time.sleep(0.05)
        return value

    def call(self, action: str, **arguments: Any) -> Any:
        """Call an action and return its result."""
        request = urllib.request.Request(
            f"{self._url}/{action}", json.dumps(arguments).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is not to be proxied
        try:
            with opener.open(request, timeout=WAIT) as response:
                return json.load(response)["result"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]) from None
