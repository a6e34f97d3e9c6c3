"""What to do about an incident, in one sentence. By the name of its metric or cause."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.models import Incident

#: Name of a metric or a cause -> what to do. tests/test_alerts.py proves it complete.
ADVICE: dict[str, Any] = {
    "memory_usage": lazy("When critical, the largest host is restarted by itself, at most every 10 minutes. If it "
                         "stays high, give this machine more memory or move accounts to another host."),
    "error_rate": lazy("The incident lists the accounts and codes that fail most: begin with the first."),
    "response_time": lazy("The incident lists the slowest routes and queries: begin with the first."),
    "failed_requests": lazy("Look into it now: applications are being refused. The incident lists what fails."),
    "sessions_offline": lazy("The account list says of each session why it is not connected and what to do."),
    "hosts_silent": lazy("Look into the host's log in var/log; its supervisor starts it again, and another host takes "
                         "its sessions meanwhile."),
    "live_back_age": lazy("The cluster has stopped or is overloaded: look into var/log/cluster.log and restart it."),
    "backlog": lazy("See whether the accounts that send are connected and whether the webhooks' receivers answer."),
    "logged_out": lazy("Open the account, press “Show a QR code” and scan it with the phone."),
    "banned": lazy("Wait: it comes back by itself when the ban ends. Send less, and only to people who expect it."),
    "outdated": lazy("Update waserver to a newer release; the phones need not be paired again."),
    "conflict": lazy("Find the other installation that has a copy of these keys and stop it, then start the account."),
    "store_missing": lazy("Restore var/devices from a backup and start the account, or pair the phone again."),
    "store_damaged": lazy("Restore var/devices from a backup and start the account, or pair the phone again."),
    "wrong_number": lazy("Correct the account's number, or pair the phone that belongs to it."),
    "on_hold": lazy("Open the account: it says why it was stopped and what to do."),
    "breaker_open": lazy("It tries again by itself after 10 minutes. If it fails on, open the account: it says why."),
    "offline": lazy("Open the account: it says why it is not connected and when it tries again."),
    "fleet": lazy("Nothing is wrong with the single accounts: check this server's network and WhatsApp itself. The "
                  "others start as soon as the trial session stays connected."),
    "host_down": lazy("Its sessions move to another host, or wait until it is back. Look into its log in var/log."),
    "host_crashing": lazy("Look into its log in var/log for the last lines before each start."),
    "crash_loop": lazy("Its log in var/log has the reason. After mending it, start it with manage.py server."),
    "job_late": lazy("See whether the cluster runs, and in the admin under Jobs whether somebody paused the job."),
    "job_failed": lazy("Its error is in the admin under Jobs; the cluster's log has the rest."),
    "alert_failing": lazy("Open the alert channel, mend its address or the service, and send a test."),
    "webhook_disabled": lazy("Mend the receiver, then enable the webhook in the admin; what waits is then delivered."),
    "alerts_stuck": lazy("See whether the cluster runs; its log says why deliver_alerts does not."),
}  # fmt: skip


def what_to_do(incident: Incident) -> str:
    """Return one sentence."""
    return str(ADVICE.get(incident.metric) or _("Open the incident: it says what was found."))
