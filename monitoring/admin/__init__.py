"""Health in the admin."""

from monitoring.admin import program

__all__ = ["program"]
