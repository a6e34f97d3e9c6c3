"""Messages, bulk sends, webhooks, keys and rules in the admin."""

from messaging.admin import bulk, key, message, rules, webhook

__all__ = ["bulk", "key", "message", "rules", "webhook"]
