"""A WhatsApp server for tests: the true wire protocol, on loopback, with every fault on demand."""

from .wasim import Wasim

__all__ = ["Wasim"]
