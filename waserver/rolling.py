"""The rolling restart: hosts one after the other, each giving its sessions to the others first."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_app.models import Host, Session
from sessions_app.states import State

#: A host sees the wish within 10 s, gives its sessions away within 60 s, ends within 10 s, and starts.
BACK_WITHIN = timedelta(seconds=120)
#: What was connected before must be connected again before the next host ends.
CONNECTED_WITHIN = timedelta(seconds=120)

Say = Callable[[str], object]


def restart(say: Say, by: str, reason: str) -> int:
    """Restart every live host, whatever machine it is on; return their number.

    Raises CommandError when one does not come back, or sessions do not: the hosts after it are left alone.
    """
    hosts = list(Host.objects.live(timezone.now()).order_by("name"))
    if not hosts:
        raise CommandError(_("No session host is running: `manage.py server start` starts the server."))
    if len(hosts) == 1:
        say(_("%(host)s is the only host, so its sessions are down while it restarts.") % {"host": hosts[0].name})
    for host in hosts:
        began, connected = time.monotonic(), _connected()
        if not host.request_restart(by, reason):
            host.refresh_from_db()
            if not host.is_live(timezone.now()):
                text = _("%(host)s ended by itself meanwhile; the hosts after it were left alone.")
                raise CommandError(text % {"host": host.name})
        text = _("%(host)s was asked to restart and did not come back: is it supervised?")
        _wait(partial(_is_back, host), BACK_WITHIN, text % {"host": host.name})
        text = _("%(host)s is back, but not all sessions that were connected are.")
        _wait(partial(_all_connected, connected), CONNECTED_WITHIN, text % {"host": host.name})
        say(_("%(host)s was restarted in %(seconds).0f s; %(count)d sessions connected.") % {
            "host": host.name, "seconds": time.monotonic() - began, "count": len(connected),
        })  # fmt: skip
    return len(hosts)


def _is_back(host: Host) -> bool:
    row = Host.objects.get(pk=host.pk)
    return row.boot != host.boot and row.is_live(timezone.now())


def _connected() -> set[int]:
    """Return what is connected under a living lease: a row nobody owns may say so from before a crash."""
    held = Session.objects.filter(state=State.CONNECTED, lease_expires_at__gt=timezone.now())
    return set(held.values_list("pk", flat=True))


def _all_connected(before: set[int]) -> bool:
    """Return whether those are connected again; nobody waits for what staff or WhatsApp ended meanwhile."""
    missing = before - _connected()
    return not Session.objects.wanted_online().filter(pk__in=missing, retry_at=None).exists()


def _wait(what: Callable[[], bool], within: timedelta, otherwise: str) -> None:
    until = time.monotonic() + within.total_seconds()
    while not what():
        if time.monotonic() > until:
            text = _("%(otherwise)s The hosts after it were left alone; see `manage.py server status`.")
            raise CommandError(text % {"otherwise": otherwise})
        time.sleep(0.3)
