"""Alerts: who is told what, once; quiet hours; retries; what staff see of it. Delivered to real sinks on loopback."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, time, timedelta
from time import monotonic
from typing import Any

import psutil
import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.tasks import async_task

from monitoring import apprise_sender, causes
from monitoring.alerts import job, notify
from monitoring.alerts.advice import ADVICE
from monitoring.alerts.delivery import deliver
from monitoring.causes import CAUSES
from monitoring.metrics import METRICS, Kind
from monitoring.models import AlertChannel, AlertDelivery, Change, DeliveryState, EntryKind, Incident, Severity
from monitoring.models.alert import FOLD, RETRY_DELAYS
from sessions_app.models import Job
from tests.installation import ROOT, Installation, free_port, wait_for
from tests.sinks import Sink, http_sink, smtp_sink, text_of

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
NIGHT = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)


def channel(name: str = "Night phone", **fields: Any) -> AlertChannel:
    return AlertChannel.objects.create(name=name, **{"url": "json://127.0.0.1:1/x", "service": "JSON", **fields})


def incident(severity: Severity = Severity.WARNING, metric: str = "memory_usage", **fields: Any) -> Incident:
    row, _ = Incident.open(metric, fields.pop("kind", Kind.SYSTEM), fields.pop("subject", ""), "", "Memory is at 83 %",
                           severity, timezone.now(), {})  # fmt: skip
    Incident.objects.filter(pk=row.pk).update(**fields)
    row.refresh_from_db()
    return row


class Told:
    """Takes messages in place of Apprise; `error` is its answer."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.messages: list[tuple[str, str, str, str]] = []

    def __call__(self, *message: str) -> str:
        self.messages.append(message)  # type: ignore[arg-type]
        return self.error

    @property
    def titles(self) -> list[str]:
        return [message[1] for message in self.messages]


def states() -> list[str]:
    return list(AlertDelivery.objects.order_by("id").values_list("state", flat=True))


# -- who is told what


def test_a_change_is_told_once_per_channel_however_often_it_is_reported() -> None:
    channel("one"), channel("two")
    row, told = incident(), Told()
    for _ in range(3):
        notify(row, EntryKind.OPENED)
        deliver(told)
    assert told.titles == ["Warning: Memory is at 83 %"] * 2
    row.escalate(timezone.now(), "Memory is at 96 %")
    notify(row, EntryKind.ESCALATED)
    deliver(told)
    assert told.titles[2:] == ["Now critical: Memory is at 96 %"] * 2
    row.end(timezone.now())
    notify(row, EntryKind.RESOLVED)
    deliver(told)
    assert told.titles[4:] == ["Resolved: Memory is at 96 %"] * 2
    assert deliver(told) == {"sent": 0, "missed": 0}


def test_what_comes_back_is_told_again_once_per_return() -> None:
    channel()
    row = incident()
    notify(row, EntryKind.OPENED)
    for _ in range(2):
        row.end(timezone.now())
        notify(row, EntryKind.RESOLVED)
        again, change = Incident.open("memory_usage", Kind.SYSTEM, "", "", "Memory is at 83 %", Severity.WARNING,
                                      timezone.now(), {})  # fmt: skip
        assert (again.pk, change) == (row.pk, EntryKind.REOPENED)
        row = again
        notify(row, change)
        notify(row, change)
    assert [d.change for d in AlertDelivery.objects.order_by("id")] == [
        "opened", "resolved", "reopened", "resolved", "reopened"
    ]  # fmt: skip


def test_a_channel_is_told_only_the_severities_it_wants() -> None:
    channel("critical only", on_warning=False)
    channel("no good news", on_resolution=False)
    channel("off", enabled=False)
    row = incident()
    assert notify(row, Change.OPENED) == 1
    row.escalate(timezone.now(), "worse")
    assert notify(row, Change.ESCALATED) == 2
    row.end(timezone.now())
    assert notify(row, Change.RESOLVED) == 1


def test_what_is_folded_into_another_incident_is_told_to_nobody() -> None:
    channel()
    root = incident()
    assert notify(incident(metric="error_rate", parent=root), Change.OPENED) == 0


def test_a_channel_is_not_told_that_it_fails_itself() -> None:
    broken, other = channel("broken"), channel("other")
    row = incident(metric="alert_channel", kind=Kind.CHANNEL, subject=str(broken.pk))
    assert notify(row, Change.OPENED) == 1
    assert AlertDelivery.objects.get().channel == other


def test_nothing_is_told_of_a_change_that_was_rolled_back() -> None:
    from django.db import transaction

    channel()
    with transaction.atomic():
        assert notify(incident(), Change.OPENED) == 1
        transaction.set_rollback(True)
    assert not AlertDelivery.objects.exists()


def test_a_text_says_what_since_when_what_to_do_and_where(settings: Any) -> None:
    settings.SITE_URL = "https://wa.example.com"
    channel(time_zone="Asia/Jakarta")
    with time_machine.travel(NIGHT, tick=False):
        row = incident(subject_label="Front office")
        notify(row, Change.OPENED)
    body = AlertDelivery.objects.get().body
    assert "About: Front office" in body
    assert "Since: 25 Nov 2026, 06:00 (Asia/Jakarta)" in body
    assert "What to do: " in body
    assert str(ADVICE["memory_usage"]) in body
    assert f"https://wa.example.com/admin/monitoring/incident/{row.pk}/change/" in body
    with time_machine.travel(NIGHT + 200 * MINUTE, tick=False):
        row.end(timezone.now())
        notify(row, Change.RESOLVED)
    assert "(3 h 20 min)" in AlertDelivery.objects.latest("id").body


def test_every_metric_and_cause_has_its_advice() -> None:
    assert set(ADVICE) == {*METRICS, *CAUSES}


def test_a_channel_that_fails_is_an_incident_the_others_are_told_of() -> None:
    now, told = timezone.now(), Told("mailbox full")
    broken, other = channel("broken"), channel("other", on_warning=False)
    notify(incident(), Change.OPENED)
    deliver(told)
    causes.evaluate(now)
    row = Incident.objects.get(metric="alert_failing")
    assert (row.subject_id, row.evidence["error"]) == (str(broken.pk), "mailbox full")
    delivery = AlertDelivery.objects.get(incident=row)
    assert delivery.channel == other
    assert "Open the alert channel" in delivery.body
    AlertChannel.objects.filter(pk=broken.pk).update(last_success_at=now + MINUTE)
    causes.evaluate(now + 2 * MINUTE)
    row.refresh_from_db()
    assert not row.is_open


def test_alerts_nobody_sends_are_an_incident() -> None:
    channel()
    notify(incident(), Change.OPENED)
    causes.evaluate(timezone.now() + 4 * MINUTE)
    assert not Incident.objects.filter(metric="alerts_stuck").exists()
    causes.evaluate(timezone.now() + 6 * MINUTE)
    assert Incident.objects.get(metric="alerts_stuck").evidence["waiting"] >= 1


# -- quiet hours


def test_in_quiet_hours_others_wait_and_come_as_one_message(time_machine: Any) -> None:
    quiet = channel(quiet_from=time(22), quiet_to=time(7), time_zone="UTC")
    time_machine.move_to(NIGHT, tick=False)
    first, second, told = incident(), incident(metric="error_rate"), Told()
    notify(first, Change.OPENED)
    notify(second, Change.OPENED)
    first.end(timezone.now() + 5 * MINUTE)
    notify(first, Change.RESOLVED)
    assert deliver(told) == {"sent": 0, "missed": 0}
    time_machine.move_to(NIGHT + timedelta(hours=8), tick=False)
    assert deliver(told) == {"sent": 3, "missed": 0}
    (url, title, body, severity), = told.messages
    assert title == "2 things happened, 1 still open"
    assert body.count("Resolved:") == 1
    assert body.count("Warning:") == 1  # the first is over: its opening is not told any more
    assert severity == "warning"
    assert quiet.deliveries.filter(state=DeliveryState.SENT).count() == 3


def test_immediate_attention_ignores_quiet_hours(time_machine: Any) -> None:
    channel(quiet_from=time(22), quiet_to=time(7), time_zone="UTC")
    time_machine.move_to(NIGHT, tick=False)
    told = Told()
    notify(incident(Severity.CRITICAL, "failed_requests", urgent=True), Change.OPENED)
    assert deliver(told) == {"sent": 1, "missed": 0}
    assert told.messages[0][3] == "critical"


def test_a_retry_does_not_wake_anybody_either(time_machine: Any) -> None:
    channel(quiet_from=time(22), quiet_to=time(7), time_zone="UTC")
    time_machine.move_to(NIGHT - timedelta(hours=1, seconds=5), tick=False)
    notify(incident(), Change.OPENED)
    deliver(Told("down"))
    assert AlertDelivery.objects.get().next_at == datetime(2026, 11, 25, 7, tzinfo=UTC)


def test_forty_things_at_once_are_one_message() -> None:
    channel()
    told = Told()
    for number in range(40):
        notify(incident(kind=Kind.ACCOUNT, subject=str(number)), Change.OPENED)
    deliver(told)
    assert told.titles == ["40 things happened, 40 still open"]
    assert "and 20 more: " in told.messages[0][2]
    assert FOLD >= 40


# -- failures


def test_a_failure_is_tried_again_later_each_time_and_given_up_in_the_end(time_machine: Any) -> None:
    quiet, now = channel(), NIGHT
    time_machine.move_to(now, tick=False)
    row, told = incident(), Told("503 from the service")
    notify(row, Change.OPENED)
    waits = []
    for _ in range(20):
        time_machine.move_to(now, tick=False)
        deliver(told)
        delivery = AlertDelivery.objects.get()
        if delivery.state == DeliveryState.FAILED:
            break
        waits.append(delivery.next_at - now)
        now = delivery.next_at
    assert waits == list(RETRY_DELAYS) == sorted(waits)
    assert len(told.messages) == len(RETRY_DELAYS) + 1
    quiet.refresh_from_db()
    assert (quiet.is_failing, quiet.last_error) == (True, "503 from the service")
    assert list(AlertChannel.objects.failing()) == [quiet]
    entry = row.entries.get(kind=EntryKind.ALERT)
    assert entry.text == "could not tell “Night phone”: opened"


def test_a_channel_that_works_again_is_no_longer_failing(time_machine: Any) -> None:
    quiet, told = channel(), Told("down")
    time_machine.move_to(NIGHT, tick=False)
    row = incident()
    notify(row, Change.OPENED)
    deliver(told)
    time_machine.move_to(NIGHT + MINUTE, tick=False)
    told.error = ""
    assert deliver(told) == {"sent": 1, "missed": 0}
    quiet.refresh_from_db()
    assert (quiet.is_failing, quiet.last_error) == (False, "")
    assert not AlertChannel.objects.failing()
    assert row.entries.get(kind=EntryKind.ALERT).text == "told “Night phone”: opened"


def test_a_broken_channel_delays_no_other() -> None:
    channel("a broken", url="json://broken", last_failure_at=timezone.now())
    channel("b", url="json://b")
    told = Told()
    notify(incident(), Change.OPENED)
    deliver(told)
    assert [message[0] for message in told.messages] == ["json://b", "json://broken"]


def test_what_a_process_claimed_that_died_is_sent_by_another(time_machine: Any) -> None:
    channel()
    time_machine.move_to(NIGHT, tick=False)
    notify(incident(), Change.OPENED)
    assert len(AlertDelivery.objects.all().claim("dead", timezone.now())) == 1
    told = Told()
    assert deliver(told) == {"sent": 0, "missed": 0}
    time_machine.move_to(NIGHT + 6 * MINUTE, tick=False)
    assert AlertDelivery.objects.take_back(timezone.now()) == 1
    assert deliver(told) == {"sent": 1, "missed": 0}


def test_alerts_nobody_delivers_are_seen(time_machine: Any) -> None:
    channel()
    time_machine.move_to(NIGHT, tick=False)
    notify(incident(), Change.OPENED)
    assert not AlertDelivery.objects.overdue(NIGHT + MINUTE)
    assert AlertDelivery.objects.overdue(NIGHT + 6 * MINUTE).count() == 1


def test_a_channel_switched_off_meanwhile_is_told_nothing() -> None:
    quiet, told = channel(), Told()
    notify(incident(), Change.OPENED)
    AlertChannel.objects.update(enabled=False)
    deliver(told)
    assert not told.messages
    assert (states(), quiet.deliveries.get().error) == (["failed"], "The channel was switched off.")


def test_a_process_that_is_told_to_end_sends_nothing_more() -> None:
    channel()
    notify(incident(), Change.OPENED)
    told = Told()
    deliver(told, go_on=lambda: False)
    assert not told.messages
    assert states() == ["queued"]


@pytest.mark.django_db(transaction=True)
def test_two_processes_tell_nothing_twice() -> None:
    for number in range(5):
        channel(str(number))
    for number in range(4):
        notify(incident(kind=Kind.ACCOUNT, subject=str(number)), Change.OPENED)
    told = Told()

    def one() -> None:
        try:
            deliver(told)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told.messages) >= 5
    assert states() == ["sent"] * 20
    assert AlertDelivery.objects.filter(attempts=1).count() == 20


# -- the job


def test_the_job_starts_a_process_only_when_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def spawn(command: str) -> bool:
        started.append(command)
        return True

    monkeypatch.setattr(job, "spawn", spawn)
    assert job.alerts(timezone.now())["started"] == 0
    channel()
    notify(incident(), Change.OPENED)
    assert job.alerts(timezone.now()) == {"due": 1, "taken_back": 0, "started": 1, "forgotten": 0, "reports": 0}
    assert started == ["deliver_alerts"]
    AlertDelivery.objects.update(created_at=timezone.now() - timedelta(days=31))
    assert job.alerts(timezone.now())["forgotten"] == 1


@pytest.mark.django_db(transaction=True)
def test_after_the_commit_the_cluster_is_asked_to_deliver_at_once() -> None:
    channel()
    notify(incident(), Change.OPENED)
    if connection.settings_dict["ENGINE"].endswith("sqlite3"):
        assert [task.func() for task in OrmQ.objects.all()] == ["sessions_app.jobs.run"]


def test_the_job_delivers_to_a_real_sink_by_a_process_that_ends(installation: Installation) -> None:
    with http_sink() as sink, smtp_sink() as mails:
        channel("http", url=f"json://127.0.0.1:{sink.port}/x")
        channel("mail", url=f"mailto://127.0.0.1:{mails.port}?from=waserver@example.com&to=night@example.com")
        channel("broken mail", url=f"mailto://127.0.0.1:{free_port()}?from=a@example.com&to=b@example.com")
        notify(incident(Severity.CRITICAL), Change.OPENED)
        process = installation.start("deliver", "manage.py", "deliver_alerts")
        wait_for(lambda: not process.running(), 60, installation.log("deliver"))
        assert "2 delivered, 1 not delivered." in process.log.read_text()
    assert sink.received[0]["title"] == "Critical: Memory is at 83 %"
    assert "What to do" in text_of(mails.received[0])
    assert "onnection error" in AlertChannel.objects.get(name="broken mail").last_error
    assert sorted(states()) == ["queued", "sent", "sent"]


def deliverers(installation: Installation) -> list[psutil.Process]:
    family = psutil.Process(installation.programs["cluster"].pid).children(recursive=True)
    return [one for one in family if one.status() != psutil.STATUS_ZOMBIE and "deliver_alerts" in one.cmdline()]


def test_the_cluster_has_an_incident_told_within_seconds(installation: Installation) -> None:
    """From the commit of an incident to the sink, with the real cluster: the hint, not the regular job's 30 s."""
    Schedule.objects.all().delete()  # only the hint can deliver
    installation.start("cluster", "manage.py", "qcluster")
    async_task("sessions_app.jobs.run", "live_back")
    wait_for(lambda: Job.objects.filter(name="live_back").exclude(last_run_at=None).exists(), 60,
             installation.log("cluster"))  # fmt: skip
    with http_sink() as sink:
        channel("http", url=f"json://127.0.0.1:{sink.port}/x")
        row = incident(Severity.CRITICAL, "failed_requests", urgent=True)
        began = monotonic()
        notify(row, Change.OPENED)
        wait_for(lambda: sink.received, 30, installation.log("cluster"))
        assert monotonic() - began < 20
        wait_for(lambda: states() == ["sent"], 10, installation.log("cluster"))
    wait_for(lambda: not deliverers(installation), 10)
    assert row.entries.get(kind=EntryKind.ALERT).text == "told “http”: opened"


# -- the admin


@pytest.fixture
def sink() -> Any:
    with http_sink() as sink:
        yield sink


def form(sink: Sink | None = None, **fields: Any) -> dict[str, Any]:
    address = f"json://user:s3cr3t-word@127.0.0.1:{sink.port}/x" if sink else ""
    return {"name": "Night phone", "address": address, "enabled": "on", "on_critical": "on", "time_zone": "UTC",
            "report_at": "08:00", **fields}  # fmt: skip


ADD = "admin:monitoring_alertchannel_add"


def errors(client: Client, **fields: Any) -> str:
    page = client.post(reverse(ADD), form(**fields))
    assert page.status_code == 200
    assert not AlertChannel.objects.exists()
    return str(page.context["adminform"].form.errors)


def test_an_address_apprise_does_not_know_is_refused_with_a_sentence(admin_client: Client) -> None:
    assert "There is no service “nonsense://”" in errors(admin_client, address="nonsense://x")


def test_other_impossible_channels_are_refused(admin_client: Client) -> None:
    assert "Enter an address" in errors(admin_client)
    assert "is not a time zone" in errors(admin_client, time_zone="Mars/Olympus")
    assert "need a beginning and an end" in errors(admin_client, quiet_from="22:00")
    assert "choose another end" in errors(admin_client, quiet_from="22:00", quiet_to="22:00")


def test_an_address_is_stored_encrypted_and_never_shown_again(admin_client: Client, sink: Sink) -> None:
    assert admin_client.post(reverse(ADD), form(sink)).status_code == 302
    row = AlertChannel.objects.get()
    assert (row.service, "s3cr3t-word" in row.url) == ("JSON", True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT url FROM monitoring_alertchannel")
        assert "s3cr3t" not in cursor.fetchone()[0]
    change = reverse("admin:monitoring_alertchannel_change", args=[row.pk])
    page = admin_client.get(change).content.decode()
    assert "In use: an address for JSON" in page
    assert "untested" in page
    assert "s3cr3t" not in page
    assert admin_client.post(change, form(name="Day phone")).status_code == 302
    row.refresh_from_db()
    assert (row.name, "s3cr3t-word" in row.url) == ("Day phone", True)


@pytest.mark.django_db(transaction=True)
def test_send_a_test_shows_what_came_of_it(
    admin_client: Client, sink: Sink, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    row = channel(url=f"json://127.0.0.1:{sink.port}/x", quiet_from=time(0), quiet_to=time(23, 59), enabled=False)
    address = reverse("admin:alert_channel_test", args=[row.pk])
    assert admin_client.get(address).status_code == 405
    page = admin_client.post(address, follow=True).content.decode()
    assert "The test was delivered to JSON." in page
    assert sink.received[0]["title"] == "Test from waserver"
    sink.refuse = True
    page = admin_client.post(address, follow=True).content.decode()
    assert "The test was not delivered: " in page
    assert "503" in page
    assert states() == ["sent", "failed"]


def test_only_who_may_change_a_channel_may_test_it(client: Client) -> None:
    row = channel()
    viewer = User.objects.create_user("budi", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_alertchannel"))
    client.force_login(viewer)
    page = client.get(reverse("admin:monitoring_alertchannel_change", args=[row.pk])).content.decode()
    assert "Send a test" not in page
    assert client.post(reverse("admin:alert_channel_test", args=[row.pk])).status_code == 403
    assert not AlertDelivery.objects.exists()


def test_how_a_channel_does_stands_in_the_list(admin_client: Client) -> None:
    now = timezone.now()
    channel("a", last_success_at=now)
    channel("b", last_failure_at=now, last_error="Mailbox full")
    channel("c", enabled=False)
    page = admin_client.get(reverse("admin:monitoring_alertchannel_changelist")).content.decode()
    for words in ("working", "failing", "Mailbox full", "off"):
        assert words in page


def test_web_and_cluster_never_load_apprise() -> None:
    code = """
import django, sys
django.setup()
import waserver.urls, waserver.asgi, monitoring.alerts.job, monitoring.alerts.telling
print([name for name in ("apprise", "river", "rich", "requests") if name in sys.modules])
"""
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=180, check=False, capture_output=True, text=True
    )
    assert asked.stdout.strip() == "[]", asked.stderr


def test_a_channel_needs_a_time_zone_that_exists() -> None:
    with pytest.raises(ValidationError, match="not a time zone"):
        AlertChannel(name="x", url="json://x", time_zone="../../etc/passwd").full_clean()


def test_the_sender_has_a_kind_for_every_severity() -> None:
    assert set(apprise_sender.KINDS) == {"", "resolved", *Severity.values}
