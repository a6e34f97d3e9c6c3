"""See accounts.management.output."""

from accounts.management.output import OurCommand

__all__ = ["OurCommand"]
