"""Addresses of users and of their devices."""

from __future__ import annotations

from typing import NamedTuple

USERS = "s.whatsapp.net"
"""Server part of an address made of a phone number."""

HIDDEN_USERS = "lid"
"""Server part of an address that hides the phone number."""


class Jid(NamedTuple):
    """One address. Device 0 is the phone itself, or the user as a whole."""

    user: str
    server: str
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> Jid:
        """Return the address written as ``user:device@server``.

        Raises ValueError when the server part is missing or the device is no number.
        """
        head, at, server = text.rpartition("@")
        if not at or not server:
            raise ValueError(f"not an address: {text!r}")
        user, _, device = head.partition(":")
        return cls(user, server, int(device) if device else 0)

    @property
    def account(self) -> Jid:
        """The same address without its device."""
        return self._replace(device=0)

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}" if self.user else self.server


SERVER = Jid("", USERS)
"""The address of WhatsApp itself."""
