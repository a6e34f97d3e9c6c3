"""Whether the hosts and the cluster live."""

from __future__ import annotations

from monitoring.measuring.moment import IDLE, Measured, Moment
from sessions_app.models import Host, Job


def hosts_silent(moment: Moment) -> Measured:
    """Return the share of hosts that went silent without having been stopped, in percent; IDLE when there is none."""
    running = Host.objects.filter(ended_at=None)
    silent = sum(not host.is_live(moment.now) for host in running)
    return {"": 100 * silent / len(running) if running else IDLE}


def live_back_age(moment: Moment) -> Measured:
    """Return the seconds since live_back last ran; None when it never did."""
    job = Job.objects.filter(name="live_back").first()
    if job is None or job.last_run_at is None:
        return {"": None}
    return {"": max(0.0, (moment.now - job.last_run_at).total_seconds())}
