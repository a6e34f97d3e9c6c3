"""Messages, bulk sends, webhooks, keys and rules in the admin."""

from messaging.admin import bulk, delivery, key, message, rules, webhook

__all__ = ["bulk", "delivery", "key", "message", "rules", "webhook"]
