"""Health in the admin."""

from monitoring.admin import alert, incident, program, threshold

__all__ = ["alert", "incident", "program", "threshold"]
