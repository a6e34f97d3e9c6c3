"""Telling people: `notify` writes down what is to be told, `manage.py deliver_alerts` tells it.

Apprise takes 32 MB, and a mail server that does not answer takes seconds: so neither a web process nor the cluster's
worker ever loads it. A process of its own delivers, and ends.
"""

from monitoring.alerts.telling import notify

__all__ = ["notify"]
