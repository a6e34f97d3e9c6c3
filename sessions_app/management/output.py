"""See accounts.management.output."""

from accounts.management.output import SETTINGS, OurCommand

__all__ = ["SETTINGS", "OurCommand"]
