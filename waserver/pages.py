"""Which processes show pages. In the others the admin, with its forms and widgets, stays out of memory: a sixth of a
host's, and half the time it takes to start."""

from __future__ import annotations

import sys

from django.contrib import admin

#: Programs that show none; they have the system checks of their settings alone, as the others need every address.
_WITHOUT = {"run_session_host", "run_dispatcher", "qcluster"}


def discover() -> None:
    """Import every app's admin, unless this process shows no page. Django's own admin app is told not to."""
    if not _WITHOUT & set(sys.argv[1:2]):
        admin.autodiscover()
