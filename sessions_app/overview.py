"""What staff must know before anything else: causes that hit many sessions, a stopped cluster, hosts that are missing,
and how far a start of many has come. Read from rows, for any page: see templates/sessions_app/overview.html."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sessions_app import jobs
from sessions_app.explanations import moment
from sessions_app.models import FleetCause, Host, Job, Session
from sessions_app.states import State

#: The rate of connecting is that of the last seconds.
_SPAN = timedelta(seconds=20)
#: Fewer connections than this say nothing about the rate.
_FEW = 3


@dataclass(frozen=True)
class Notice:
    """One thing that is wrong: in words, and what to do ("" is nothing)."""

    sentence: str
    what_to_do: str


@dataclass(frozen=True)
class Progress:
    """How far a start of many has come. `left` in seconds, None while nobody can tell."""

    connected: int
    wanted: int
    waiting: int  # for the time of their next attempt, or a fleet cause
    left: int | None

    @property
    def sentence(self) -> str:
        """Return it in words."""
        text = _("%(connected)d of %(wanted)d connected") % {"connected": self.connected, "wanted": self.wanted}
        if self.left is not None:
            text += ", " + _("about %(seconds)d s left") % {"seconds": self.left}
        if self.waiting:
            text += ", " + ngettext("%(count)d waits for its next attempt", "%(count)d wait for their next attempt",
                                    self.waiting) % {"count": self.waiting}  # fmt: skip
        return text


def context(now: datetime) -> dict[str, Any]:
    """Return what overview.html needs: `notices` and `progress` (None when nothing is starting). Six queries."""
    return {"notices": notices(now), "progress": progress(now)}


def notices(now: datetime) -> list[Notice]:
    """Return what is wrong with the fleet as a whole, worst first."""
    found = []
    if not Host.objects.live(now).exists() and Session.objects.wanted_online().exists():
        found.append(Notice(
            _("No session host is running, so no account can be connected."),
            _("Start the server with `make run`, or look at the log of the session hosts."),
        ))  # fmt: skip
    if "live_back" in jobs.late(now):
        last = Job.objects.filter(name="live_back").values_list("last_run_at", flat=True).first()
        found.append(Notice(
            _("The regular jobs have stopped: live_back last ran at %(at)s.") % {"at": moment(last)} if last
            else _("The regular jobs have not run yet."),
            _("Sessions stay connected meanwhile. Start the server, or look at the log of the cluster."),
        ))  # fmt: skip
    if "live_back" in jobs.paused():
        found.append(Notice(
            _("live_back is paused: a session that no host owns is not taken up again."),
            _("Resume it on the page of the jobs."),
        ))  # fmt: skip
    found += [Notice(*_cause(cause)) for cause in FleetCause.objects.ongoing().select_related("trial__account")]
    return found


def _cause(cause: FleetCause) -> tuple[str, str]:
    values = {
        "at": moment(cause.began_at), "affected": cause.affected, "trial": str(cause.trial or "–"),
        "code": f" ({cause.code})" if cause.code else "",
    }  # fmt: skip
    if cause.code == 405:
        return (
            _("WhatsApp rejects this version of the client library%(code)s since %(at)s; accounts affected: "
              "%(affected)d. Only “%(trial)s” is tried, every 6 hours.") % values,
            _("Update waserver to a newer release; the new version is tried at once."),
        )  # fmt: skip
    return (
        _("Since %(at)s %(affected)d sessions fail alike%(code)s. Only “%(trial)s” is tried until it stays "
          "connected; then the others follow by themselves.") % values,
        _("Check this server's internet connection and proxy, and whether WhatsApp has an outage."),
    )  # fmt: skip


def progress(now: datetime) -> Progress | None:
    """Return how far the start of what should be online has come; None when nothing is starting."""
    later = Q(retry_at__gt=now) | Q(reason="fleet")
    connected = Q(state=State.CONNECTED)
    recently = connected & Q(connected_at__gt=now - _SPAN)
    found = Session.objects.wanted_online().aggregate(
        wanted=Count("pk"), connected=Count("pk", filter=connected), waiting=Count("pk", filter=later & ~connected),
        recent=Count("pk", filter=recently), since=Min("connected_at", filter=recently),
    )  # fmt: skip
    starting = found["wanted"] - found["connected"] - found["waiting"]
    if starting <= 0 or found["wanted"] < 2:
        return None
    left = estimate(starting, found["recent"], now - found["since"] if found["since"] else timedelta())
    return Progress(found["connected"], found["wanted"], found["waiting"], left)


def estimate(starting: int, recent: int, span: timedelta) -> int | None:
    """Return the seconds until `starting` sessions are connected when `recent` were within `span`; None: unknown."""
    if recent < _FEW:
        return None
    return math.ceil(starting * max(span.total_seconds(), 1) / recent)
