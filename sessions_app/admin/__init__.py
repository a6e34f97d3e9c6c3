"""Accounts and sessions in the admin."""

from sessions_app.admin import account, rows

__all__ = ["account", "rows"]
