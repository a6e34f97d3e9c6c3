"""The report: its numbers from rows, its formats, its page, its daily mail."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from monitoring import histogram
from monitoring.management.commands.monitor import span
from monitoring.models import AlertChannel, AlertDelivery, HealthSample, Incident, RequestCount, Resolution, Severity
from monitoring.models.request_count import Span
from monitoring.reporting import render
from monitoring.reporting.daily import queue_reports
from monitoring.reporting.report import report
from monitoring.reporting.shape import Report
from sessions_app.models import Host, Session, SessionEvent

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
SINCE = NOW - 24 * HOUR


def session(label: str, state: str = "connected", **fields: Any) -> Session:
    row: Session = Account.objects.create(label=label).session
    Session.objects.filter(pk=row.pk).update(state=state, state_changed_at=NOW - 50 * HOUR, **fields)
    return row


def event(row: Session, hours: float, before: str, after: str, code: int | None = None, kind: str = "connected",
          reason: str = "") -> None:  # fmt: skip
    SessionEvent.objects.create(session=row, at=NOW - hours * HOUR, kind=kind, before=before, after=after, code=code,
                                reason=reason)  # fmt: skip


def requests(hours: float, count: int, errors: int = 0, seconds: float = 0.1, route: str = "GET /a",
             span: Span = Span.MINUTE) -> None:  # fmt: skip
    at = (NOW - hours * HOUR).replace(minute=0 if span == Span.HOUR else 5, second=0)
    buckets = {str(histogram.bucket(seconds)): count}
    RequestCount.objects.create(at=at, span=span, route=route, count=count, errors=errors, buckets=buckets)


def sample(hours: float, value: float, resolution: Resolution = Resolution.READING, count: int = 1) -> HealthSample:
    return HealthSample(metric="memory_usage", resolution=resolution, at=NOW - hours * HOUR, value=value, minimum=value,
                        maximum=value, count=count)  # fmt: skip


@pytest.fixture
def busy() -> None:
    """A day with something in every part of the report."""
    good, bad = session("Good"), session("Bad", "waiting")
    session("=Offline", "stopped", reason="by_staff")
    event(good, 30, "connecting", "connected")
    event(bad, 30, "connecting", "connected")
    event(bad, 20, "connected", "reconnecting", None, "disconnected", "dropped")
    event(bad, 19, "reconnecting", "connected")
    event(bad, 6, "connected", "waiting", 440, "replaced", "conflict")
    requests(1, 90, 0, 0.05)
    requests(1.9, 10, 5, 4.0, "POST /b")
    HealthSample.objects.bulk_create(sample(n / 4, 60 - n / 4) for n in range(96))
    HealthSample.objects.bulk_create([sample(0.01, 0, count=0)])  # nothing to measure is no value of 0
    opened = NOW - 3 * HOUR
    incident, _ = Incident.open("memory_usage", "system", "", "", "Memory is at 83 %", Severity.WARNING, opened, {})
    incident.end(NOW - 2 * HOUR)
    Incident.open("error_rate", "system", "", "", "<b>Errors</b>", Severity.CRITICAL, NOW - HOUR, {})
    Host.objects.create(name="host-1", heartbeat_at=NOW, sessions=2, capacity=50, rss=200_000_000)


def valid(found: Any) -> None:
    schema = json.loads((settings.BASE_DIR / "docs" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema, format_checker=jsonschema.FormatChecker())


def test_its_numbers_are_those_of_the_rows(busy: None) -> None:
    found = report(SINCE, NOW)
    by_label = {one["label"]: one for one in found["accounts"]}
    assert by_label["Good"]["uptime"] == 1
    assert by_label["Bad"]["uptime"] == pytest.approx(17 / 24, abs=1e-6)
    assert by_label["Bad"]["down"] == 7 * 3600
    assert by_label["=Offline"]["uptime"] is None
    assert found["uptime"] == pytest.approx(41 / 48, abs=1e-6)
    assert [(one["code"], one["lost"], one["back"], one["median"]) for one in found["reconnects"]] == [
        (None, 1, 1, 3600.0), (440, 1, 0, None)
    ]  # fmt: skip
    assert (found["requests"]["count"], found["requests"]["errors"]) == (100, 5)
    assert found["requests"]["p50"] == pytest.approx(0.05, rel=0.25)
    assert found["requests"]["p99"] == pytest.approx(4.0, rel=0.25)
    assert found["requests"]["slowest"][0]["route"] == "POST /b"
    # 100 requests, 5 failed; one reconnect within the day.
    assert found["operations"] == {"count": 101, "failed": 5, "error_rate": pytest.approx(5 / 101, abs=1e-6)}
    assert [hour["requests"] for hour in found["busiest"]] == [90, 10]
    assert len(found["hours"]) == 25
    assert sum(hour["losses"] for hour in found["hours"]) == 2
    assert (found["memory"]["first"], found["memory"]["last"]) == (36.25, 60)
    assert found["memory"]["finding"] == "near"
    assert {one["title"]: one["lasted"] for one in found["incidents"]} == {
        "<b>Errors</b>": 3600, "Memory is at 83 %": 3600
    }  # fmt: skip
    assert found["capacity"]["bytes_per_session"] == 100_000_000
    assert found["capacity"]["more_by_slots"] == 48
    valid(found)


def test_an_empty_installation_has_a_report_that_claims_nothing() -> None:
    found = report(SINCE, NOW)
    valid(found)
    assert found["uptime"] is None
    assert found["operations"]["error_rate"] is None
    assert found["requests"]["p95"] is None
    assert found["capacity"]["more"] is None
    assert found["memory"]["finding"] == "too_little"
    assert len(found["missing"]) == 3
    assert "100" not in render.as_text(found).replace("1000", "")


def test_old_minutes_come_from_the_hours_they_became() -> None:
    requests(60, 1000, span=Span.HOUR)
    requests(2, 50, span=Span.HOUR)
    requests(2, 50)  # the same hour, as its minutes still are: counted once
    requests(0.4, 7)
    assert report(NOW - timedelta(days=7), NOW)["requests"]["count"] == 1057
    assert report(SINCE, NOW)["requests"]["count"] == 57


def test_a_session_that_appeared_meanwhile_is_unknown_before() -> None:
    row = session("New")
    Session.objects.filter(pk=row.pk).update(state_changed_at=NOW - HOUR)
    found = report(SINCE, NOW)
    assert found["accounts"][0]["uptime"] is None
    assert found["accounts"][0]["unknown"] == 24 * 3600
    assert any("nothing is known" in sentence for sentence in found["missing"])


def test_before_the_first_event_only_a_lasting_state_is_believed() -> None:
    for label, state in (("Long connected", "connected"), ("Starting", "connecting")):
        row = session(label)
        event(row, 6, state, "connected" if state != "connected" else "waiting")
    found = {one["label"]: (one["up"], one["down"], one["unknown"]) for one in report(SINCE, NOW)["accounts"]}
    assert found["Long connected"] == (18 * 3600, 6 * 3600, 0)
    assert found["Starting"] == (6 * 3600, 0, 18 * 3600)


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(busy: None) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            report(SINCE, NOW)
        return len(seen)

    few = queries()
    for number in range(20):
        row = session(f"more {number}")
        event(row, 5, "connected", "waiting", 408)
    assert queries() == few <= 22


def test_the_schema_names_what_the_types_name() -> None:
    schema = json.loads((settings.BASE_DIR / "docs" / "report.schema.json").read_text())
    assert set(schema["properties"]) == set(Report.__annotations__)
    broken = {**report(SINCE, NOW), "uptime": "100 %"}
    with pytest.raises(jsonschema.ValidationError):
        valid(broken)


# -- formats


def test_the_text_is_for_reading(busy: None) -> None:
    text = render.as_text(report(SINCE, NOW))
    for words in ("Uptime", "70.83 %", "replaced: another client uses the same keys", "GET /a", "Memory is at 83 %"):
        assert words in text
    assert text.index("Bad") < text.index("Good")  # the worst first


def test_csv_has_a_number_a_line_and_no_formulas(busy: None) -> None:
    rows = list(csv.DictReader(io.StringIO(render.as_csv(report(SINCE, NOW)))))
    values = {(row["part"], row["subject"], row["name"]): row["value"] for row in rows}
    assert values["accounts", "Good", "uptime"] == "1.0"
    assert values["accounts", "'=Offline", "uptime"] == ""
    assert values["requests", "", "count"] == "100"
    assert not any(cell[:1] in ("=", "+", "@") for row in rows for cell in row.values())


def test_html_needs_nothing_else_and_escapes_names(busy: None) -> None:
    page = render.as_html(report(SINCE, NOW))
    assert "&lt;b&gt;Errors&lt;/b&gt;" in page
    assert "<b>Errors" not in page
    assert ".mr-cards" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert " style=" not in page


@pytest.mark.parametrize(("share", "shown"), [(None, "–"), (1, "100.00 %"), (0.5, "50.00 %"), (0.99996, "99.996 %"),
                                              (0.9999999, "100.0000 %")])  # fmt: skip
def test_what_is_not_quite_all_is_hardly_ever_shown_as_all(share: float | None, shown: str) -> None:
    assert render.percent(share) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (90_061, "1 d 1 h")],
)
def test_durations_are_short(value: float | None, shown: str) -> None:
    assert render.duration(value) == shown


# -- the command


@pytest.mark.parametrize("text", ["", "yesterday", "24", "-3h", "0h", "1w", "1.5h", "24 hours"])
def test_a_wrong_stretch_of_time_is_one_sentence(text: str) -> None:
    with pytest.raises(CommandError, match="write it like 90m, 24h or 7d"):
        span(text)


def test_more_than_is_kept_is_refused() -> None:
    with pytest.raises(CommandError, match="EVENT_RETENTION_DAYS"):
        call_command("monitor", "report", since="400d")


def test_json_from_the_command_is_valid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call_command("monitor", "report", "--since", "24h", "--format", "json")
    valid(json.loads(capsys.readouterr().out))
    for name in render.FORMATS:
        file = tmp_path / name
        call_command("monitor", "report", "--format", name, "--output", str(file))
        assert file.read_text()
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("monitor", "report", "--output", str(tmp_path / "nowhere" / "x"))


# -- the page


def test_the_page_shows_it_and_gives_it_as_a_file(admin_client: Client, busy: None) -> None:
    page = admin_client.get(reverse("health:report"))
    assert page.status_code == 200
    assert "Good" in page.content.decode()
    for name in ("html", "csv", "json", "text"):
        file = admin_client.get(reverse("health:report"), {"since": "7d", "format": name})
        assert "attachment; filename=" in file["Content-Disposition"]
        if name == "json":
            valid(json.loads(file.content))
    assert admin_client.get(reverse("health:report"), {"since": "'; DROP", "format": "exe"}).status_code == 200


def test_the_page_is_for_those_who_may_see_health(client: Client) -> None:
    viewer = User.objects.create_user("budi", is_staff=True)
    client.force_login(viewer)
    assert client.get(reverse("health:report")).status_code == 403
    viewer.user_permissions.add(Permission.objects.get(codename="view_healthsample"))
    assert client.get(reverse("health:report")).status_code == 200
    client.logout()
    assert client.get(reverse("health:report")).status_code == 302


# -- the daily mail


def test_a_report_is_queued_once_a_day_at_the_hour_of_the_channels_clock(busy: None) -> None:
    for name, zone in (("Jakarta", "Asia/Jakarta"), ("UTC", "UTC")):
        AlertChannel.objects.create(name=name, url="json://x", daily_report=True, time_zone=zone, report_at=time(8))
    AlertChannel.objects.create(name="none", url="json://x")
    eight_in_jakarta = datetime(2026, 11, 24, 1, tzinfo=UTC)
    assert queue_reports(eight_in_jakarta - timedelta(minutes=1)) == 0
    assert queue_reports(eight_in_jakarta) == 1
    assert queue_reports(eight_in_jakarta + HOUR) == 0
    assert queue_reports(eight_in_jakarta + 7 * HOUR) == 1  # UTC's turn
    assert queue_reports(eight_in_jakarta + 24 * HOUR) == 1
    rows = AlertDelivery.objects.filter(channel__name="Jakarta")
    assert [row.key for row in rows.order_by("id")] == ["report:2026-11-24", "report:2026-11-25"]
    assert "Uptime" in rows[0].body
    assert "/admin/health/report/" in rows[0].body


def test_a_server_that_was_down_all_day_sends_no_report_of_the_morning() -> None:
    AlertChannel.objects.create(name="UTC", url="json://x", daily_report=True, time_zone="UTC", report_at=time(8))
    assert queue_reports(datetime(2026, 11, 24, 15, tzinfo=UTC)) == 0
    assert queue_reports(datetime(2026, 11, 24, 13, tzinfo=UTC)) == 1
    assert AlertDelivery.objects.get().next_at <= timezone.now()
