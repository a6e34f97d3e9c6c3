"""Wasim: a WhatsApp server on loopback that speaks the true wire protocol, for tests without WhatsApp."""

from .connection import Gone
from .device import Device
from .offer import ScanError
from .phone import Phone
from .server import Wasim

__all__ = ["Device", "Gone", "Phone", "ScanError", "Wasim"]
