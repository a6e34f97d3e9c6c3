"""Health in the admin."""

from monitoring.admin import alert, program

__all__ = ["alert", "program"]
