"""A WhatsApp server for tests: the true wire protocol, on loopback, with every fault on demand."""

from .control import Control
from .remote import WasimClient
from .wasim import Wasim

__all__ = ["Control", "Wasim", "WasimClient"]
