"""Cards, their pictures, pages and who may see them; readings summed up and forgotten."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from monitoring import metric_page
from monitoring.cards import cards, since
from monitoring.dashboard import shown
from monitoring.details import DETAILS
from monitoring.evaluation import Level, Limits, Reading
from monitoring.levels import LEVELS, SEVERITIES, STATES
from monitoring.metrics import METRICS
from monitoring.models import HealthSample, Incident, IncidentState, RequestCount, Resolution, Severity, SlowQuery
from monitoring.models.request_count import Span
from monitoring.models.threshold import Threshold
from monitoring.rollup import rollup
from monitoring.sparkline import sparkline

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LIMITS = Limits(80, 95)


def sample(metric: str, value: float, age: float = 10, now: datetime | None = None, **fields: Any) -> HealthSample:
    at = (now or timezone.now()) - age * SECOND
    return HealthSample.objects.create(metric=metric, at=at, value=value, minimum=value, maximum=value, **fields)


def level(metric: str) -> Level:
    return next(card.level for card in cards(timezone.now()) if card.metric.name == metric)


def every_30_s(values: Sequence[float | None], age: float = 0) -> list[Reading]:
    return [Reading(NOW - (age + 30 * n) * SECOND, value) for n, value in enumerate(reversed(values))][::-1]


def test_every_level_severity_and_state_has_a_word_a_colour_and_an_icon() -> None:
    assert set(LEVELS) == set(Level)
    assert set(SEVERITIES) == set(Severity)
    assert set(STATES) == set(IncidentState)
    assert [level for level, sign in LEVELS.items() if sign.colour == "green"] == [Level.OK]
    assert len({str(sign.word) for sign in LEVELS.values()}) == len(LEVELS)


def test_the_four_seed_cards_come_first_then_sessions_hosts_cluster_and_backlog() -> None:
    names = [card.metric.name for card in cards(timezone.now())]
    assert names == ["memory_usage", "error_rate", "response_time", "failed_requests", "sessions_offline",
                     "hosts_silent", "live_back_age", "backlog"]  # fmt: skip
    assert set(DETAILS) <= set(METRICS)


def test_without_readings_everything_is_unknown_and_nothing_is_well() -> None:
    values = shown(timezone.now())
    assert {card.level for card in values["cards"]} == {Level.UNKNOWN}
    assert values["summary"].sign is LEVELS[Level.UNKNOWN]
    assert "cluster does not run" in values["summary"].text


def test_old_readings_are_unknown() -> None:
    sample("memory_usage", 50, age=10)
    assert level("memory_usage") is Level.OK
    HealthSample.objects.all().delete()
    sample("memory_usage", 50, age=91)
    assert level("memory_usage") is Level.UNKNOWN


def test_all_is_well_only_when_every_card_is_known_and_good() -> None:
    for name in METRICS:
        sample(name, 0)
    assert shown(timezone.now())["summary"].text == "All is well."
    HealthSample.objects.filter(metric="backlog").delete()
    assert shown(timezone.now())["summary"].text == "Not known: Backlog"
    Incident.open("backlog", "system", "", "", "t", Severity.CRITICAL, timezone.now(), {})
    Incident.open("error_rate", "system", "", "", "t", Severity.WARNING, timezone.now(), {})
    assert shown(timezone.now())["summary"].text == "1 critical incident and 1 warning"


def test_a_card_without_a_threshold_is_not_green() -> None:
    Threshold.objects.filter(metric="memory_usage").update(enabled=False)
    sample("memory_usage", 1)
    assert level("memory_usage") is Level.PLAIN


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([50, 50, 90, 90], "since 11:59:30"),
        ([90, 90, 50, 50], "since 11:59:30"),
        ([], "no reading in the last hour"),
    ],
)
def test_a_card_says_since_when(values: list[float], words: str, time_machine: Any) -> None:
    time_machine.move_to(NOW, tick=False)
    assert since(every_30_s(values), LIMITS, NOW) == words


def test_a_card_that_never_changed_says_so(time_machine: Any) -> None:
    time_machine.move_to(NOW, tick=False)
    assert since(every_30_s([50] * 119), LIMITS, NOW) == "for an hour or longer"
    assert since(every_30_s([50, 50], age=300), LIMITS, NOW) == "last reading 11:55:00"


def test_the_picture_has_both_lines_and_leaves_gaps() -> None:
    readings = [Reading(NOW - 300 * SECOND, 10), Reading(NOW - 270 * SECOND, 20), Reading(NOW - 30 * SECOND, None),
                Reading(NOW, 99)]  # fmt: skip
    picture = sparkline(readings, LIMITS, NOW, 'say "it" <b>')
    assert picture.count("<polyline") == 2
    assert picture.count("<line ") == 2
    assert "style=" not in picture
    assert "&quot;it&quot; &lt;b&gt;" in picture
    heights = [float(y) for y in re.findall(r'y1="([\d.]+)"', picture)]
    assert heights[0] > heights[1] > 0  # the warning line lies below the critical one


# -- pages


def staff(*permissions: str) -> Client:
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_who_may_not_see_health_sees_none_of_it() -> None:
    incident, _change = Incident.open("backlog", "system", "", "", "Secret", Severity.WARNING, timezone.now(), {})
    client = staff("view_account")
    index = client.get("/admin/")
    assert index.status_code == 200
    assert b"hl-card" not in index.content
    assert b"Secret" not in index.content
    assert client.get(f"/admin/monitoring/incident/{incident.pk}/change/").status_code == 403
    assert client.get("/admin/monitoring/incident/metric/backlog/").status_code == 403


def test_who_may_see_incidents_may_not_work_on_them() -> None:
    incident, _change = Incident.open("backlog", "system", "", "", "Slow", Severity.WARNING, timezone.now(), {})
    viewer, handler = staff("view_incident"), staff("view_incident", "handle_incident")
    page = f"/admin/monitoring/incident/{incident.pk}/change/"
    assert b"Acknowledge" not in viewer.get(page).content
    for verb in ("acknowledge", "assign", "note", "resolve"):
        url = f"/admin/monitoring/incident/{incident.pk}/do/{verb}/"
        assert viewer.post(url).status_code == 403
        assert handler.get(url).status_code == 405
        assert Client().post(url).status_code == 302
    assert incident.entries.count() == 1
    answer = handler.post(f"/admin/monitoring/incident/{incident.pk}/do/note/", {"text": "  "}, follow=True)
    assert b"Write something first" in answer.content
    assert handler.post(f"/admin/monitoring/incident/{incident.pk}/do/delete/").status_code == 404
    assert handler.post(f"/admin/monitoring/incident/{incident.pk}/do/resolve/", {"text": "x"}).status_code == 302
    incident.refresh_from_db()
    assert not incident.is_open


def test_text_of_strangers_is_never_markup() -> None:
    incident, _change = Incident.open("offline", "account", "1", "<b>x</b>", "<script>alert(1)</script>",
                                      Severity.WARNING, timezone.now(), {"a": "<i>", "log": ["<u>"]})  # fmt: skip
    client = staff("view_incident")
    for page in ("/admin/", "/admin/monitoring/incident/", f"/admin/monitoring/incident/{incident.pk}/change/"):
        content = client.get(page).content
        assert b"<script>alert(1)" not in content
        assert b"<i>" not in content
        assert b"<u>" not in content


@pytest.mark.parametrize("query", ["", "?range=7d", "?range=30d", "?range=24h&subject=account:7"])
def test_the_page_of_every_metric_opens_without_values(query: str) -> None:
    client = staff("view_incident")
    for name in METRICS:
        assert client.get(f"/admin/monitoring/incident/metric/{name}/{query}").status_code == 200
    assert client.get("/admin/monitoring/incident/metric/nonsense/").status_code == 404
    assert client.get("/admin/monitoring/incident/metric/backlog/?range=99y").status_code == 404


def test_a_metrics_history_joins_hours_and_readings_not_summed_up_yet() -> None:
    now = timezone.now().replace(minute=30, second=0, microsecond=0)
    top = now.replace(minute=0)
    for n in range(1, 4):
        sample("backlog", n * 10, 0, top - n * HOUR, resolution=Resolution.HOUR, count=120)
    sample("backlog", 100, 0, now - 60 * SECOND)
    sample("backlog", 0, 0, now - 30 * SECOND, count=0)  # nothing to measure
    values = metric_page.context(METRICS["backlog"], "", "7d", now)
    assert [point["mean"] for point in values["chart"]["points"]] == [30, 20, 10, 100]
    json.dumps(values["chart"])


# -- summing up and forgetting


def test_readings_become_hours_and_days_and_are_then_forgotten(settings: Any) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    for minute in range(0, 60 * 24, 30):
        sample("backlog", minute, 0, start + minute * 60 * SECOND)
    sample("backlog", 0, 0, start + 90 * SECOND, count=0)  # idle: it has no part in the mean
    now = start + 25 * HOUR
    first = rollup(now)
    assert first["hours"] == 24
    hour = HealthSample.objects.get(resolution=Resolution.HOUR, at=start)
    assert (hour.value, hour.minimum, hour.maximum, hour.count) == (15, 0, 30, 2)
    day = HealthSample.objects.get(resolution=Resolution.DAY, at=start)
    assert (day.minimum, day.maximum, day.count) == (0, 1410, 48)
    assert day.value == pytest.approx(705)
    assert rollup(now) == {**first, "hours": 0, "days": 0, "request_hours": 0, "deleted": 0}
    rollup(now + 24 * HOUR)
    old = now + 24 * HOUR - settings.HEALTH_DETAIL
    assert not HealthSample.objects.filter(resolution=Resolution.READING, at__lt=old).exists()
    rollup(now + settings.HEALTH_HOURLY)
    assert not HealthSample.objects.filter(resolution=Resolution.HOUR).exists()
    rollup(now + settings.HEALTH_DAILY)
    assert not HealthSample.objects.exists()


def test_request_counts_of_all_processes_become_one_hour() -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    for minute in range(3):
        for process in ("a", "b"):
            RequestCount.objects.create(at=start + minute * 60 * SECOND, route="GET /api/x", process=process, count=2,
                                        errors=1, buckets={"3": 1, "9": 1})  # fmt: skip
    SlowQuery.objects.create(at=start, statement="SELECT 1", worst=2)
    assert rollup(start + 2 * HOUR)["request_hours"] == 1
    row = RequestCount.objects.get(span=Span.HOUR)
    assert (row.count, row.errors, row.buckets, row.process) == (12, 6, {"3": 6, "9": 6}, "")
    rollup(start + timedelta(days=8))
    assert not RequestCount.objects.filter(span=Span.MINUTE).exists()
    assert not SlowQuery.objects.exists()


def test_resolved_incidents_are_forgotten_and_open_ones_are_not(settings: Any) -> None:
    old = timezone.now() - settings.INCIDENT_RETENTION - HOUR
    done, _change = Incident.open("backlog", "system", "", "", "done", Severity.WARNING, old, {})
    done.end(old)
    Incident.open("error_rate", "system", "", "", "open", Severity.WARNING, old, {})
    rollup(timezone.now())
    assert list(Incident.objects.values_list("title", flat=True)) == ["open"]
