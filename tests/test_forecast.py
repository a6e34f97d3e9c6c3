"""Early warning: what is known of a session's past, what is learnt from it, when it is silent, where it is shown."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from monitoring.forecasting import job, words
from monitoring.forecasting.history import FEATURES, History
from monitoring.forecasting.learner import Finding, learn
from monitoring.forecasting.run import WINDOW, forecast, history_of, hours
from monitoring.forecasting.simulated import simulated
from monitoring.models import Forecast, ForecastRun
from monitoring.reporting.uptime import Step
from sessions_app.models import Session, SessionEvent
from tests.installation import Installation, wait_for

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def past(**fields: Any) -> History:
    return History(**{"begin": 0.0, "connected": [(0.0, 1e9)], **fields})


# -- history


def test_features_count_what_came_before_and_nothing_later() -> None:
    t = 20 * 24.0
    history = past(drops=[t - 23.5, t - 5, t - 0.5], timeouts=[t - 0.2], conflicts=[t - 0.5])
    before = history.features(t)
    assert before["drops_day"] > before["drops_six"] > before["drops_hour"] > 0
    assert before["yesterday"] == 1
    for later in (history.drops, history.timeouts, history.conflicts, history.refusals):
        later.append(t + 0.1)
    assert history.features(t) == before


def test_habits_of_an_hour_are_learnt_from_earlier_days() -> None:
    t = 15 * 24.0
    nightly = past(drops=[day * 24 + 0.5 for day in range(1, 15)])
    assert nightly.features(t)["habit"] > 0.8
    assert nightly.features(t + 12)["habit"] < 0.1
    assert past().features(t)["habit"] == 0


def test_only_who_is_connected_can_lose_the_connection() -> None:
    history = past(connected=[(0.0, 5.0), (6.0, 9.0)])
    assert [history.at_risk(t) for t in (0, 4.9, 5, 5.5, 6, 9)] == [True, True, False, False, True, False]
    assert not History(0.0).at_risk(1)


def test_events_become_a_history() -> None:
    since = NOW - 48 * HOUR

    def row(h: float, kind: str, was: str, after: str, reason: str = "", code: int | None = None) -> Any:
        return (since + h * HOUR, kind, was, after, reason, code)

    rows = [
        row(2, "keepalive_timeout", "connected", "connected"), row(3, "disconnected", "connected", "reconnecting"),
        row(3.5, "connect_failed", "reconnecting", "waiting", "refused", 503),
        row(4, "connected", "connecting", "connected"),
        row(5, "replaced", "connected", "waiting", "conflict", 440), row(6, "connected", "connecting", "connected"),
        row(7, "stopped", "connected", "stopped", "by_staff"),
    ]  # fmt: skip
    found = history_of(rows, since, NOW, Step(since - HOUR, "connected"))
    begin = hours(since)
    assert [round(at - begin, 3) for at in found.drops] == [3, 5]  # what staff stopped was not lost
    assert [round(at - begin, 3) for at in found.timeouts] == [2]
    assert [round(at - begin, 3) for at in found.refusals] == [3.5]
    assert [round(at - begin, 3) for at in found.conflicts] == [5]
    assert [(round(a - begin, 3), round(b - begin, 3)) for a, b in found.connected] == [(0, 3), (4, 5), (6, 7)]


def test_a_session_without_events_is_known_by_the_state_it_was_in() -> None:
    since = NOW - 48 * HOUR
    assert history_of([], since, NOW, Step(since, "connected")).at_risk(hours(NOW))
    assert not history_of([], since, NOW, None).at_risk(hours(NOW))


# -- learning


def test_on_a_history_with_structure_it_beats_same_as_yesterday() -> None:
    learner = learn(simulated(60, 21, seed=1), 0.0, 21 * 24.0)
    assert learner.finding is Finding.GOOD
    assert learner.mine.f1 > 1.5 * learner.yesterday.f1
    assert learner.mine.precision > learner.yesterday.precision
    assert learner.mine.recall > learner.yesterday.recall
    t = 21 * 24.0
    calm = learner.risk(past(drops=[50.0]).features(t))
    shaky = past(timeouts=[t - 0.5, t - 0.4, t - 2], drops=[t - 1.5, t - 3, t - 4.5]).features(t)
    assert learner.risk(shaky) > 5 * calm
    assert "timeouts_six" in learner.reasons(shaky)


def test_where_drops_come_at_random_it_says_nothing() -> None:
    dice = random.Random(5)
    histories = {
        pk: past(drops=sorted(dice.uniform(0, 500) for _ in range(10)), connected=[(0.0, 500.0)]) for pk in range(1, 31)
    }
    assert learn(histories, 0.0, 500.0).finding is Finding.NO_BETTER


def test_with_too_little_it_says_nothing() -> None:
    assert learn({}, 0.0, 500.0).finding is Finding.TOO_LITTLE
    assert learn(simulated(2, 5, seed=1), 0.0, 120.0).finding is Finding.TOO_LITTLE
    assert learn({1: past()}, 0.0, 700.0).finding is Finding.TOO_LITTLE  # hours enough, and not one drop


def test_many_sessions_are_sampled_and_the_usual_risk_stays_true(monkeypatch: pytest.MonkeyPatch) -> None:
    from monitoring.forecasting import learner as module

    histories = simulated(60, 14, seed=2)
    whole = learn(histories, 0.0, 14 * 24.0)
    monkeypatch.setattr(module, "MOST", 5000)
    part = learn(histories, 0.0, 14 * 24.0)
    assert part.hours < whole.hours / 3
    assert part.drops == whole.drops
    assert part.usual == pytest.approx(whole.usual, rel=0.1)


def test_every_feature_and_finding_has_its_words() -> None:
    assert set(words.REASONS) == set(FEATURES)
    assert set(words.FINDINGS) == set(Finding)


# -- on the rows


def written(days: int = 20, sessions: int = 24) -> list[Session]:
    """Return sessions whose events tell a simulated history that ends now, at a whole hour of it."""
    begin = NOW - days * 24 * HOUR
    rows, found = [], []
    for number, history in simulated(sessions, days, seed=3).items():
        session = Account.objects.create(label=f"Account {number:02}").session
        found.append(session)

        def add(t: float, kind: str, was: str, after: str, code: int | None = None, of: Session = session) -> None:
            rows.append(SessionEvent(session=of, at=begin + t * HOUR, kind=kind, before=was, after=after, code=code,
                                     reason="dropped" if after == "waiting" else ""))  # fmt: skip

        add(0, "connected", "connecting", "connected")
        conflicts = set(history.conflicts)
        for (_up, down), (again, _end) in zip(history.connected, history.connected[1:], strict=False):
            add(down, "disconnected", "connected", "waiting", 440 if down in conflicts else None)
            add(again, "connected", "waiting", "connected")
        for at in history.timeouts:
            add(at, "keepalive_timeout", "connected", "connected")
    SessionEvent.objects.bulk_create(sorted(rows, key=lambda row: row.at))
    Session.objects.update(state="connected")
    return found


@pytest.mark.django_db
def test_it_learns_from_the_events_and_writes_what_it_expects() -> None:
    sessions = written()
    young = Account.objects.create(label="Young").session
    Session.objects.filter(pk=young.pk).update(state="connected")
    SessionEvent.objects.create(session=young, at=NOW - 5 * HOUR, kind="connected", before="connecting",
                                after="connected")  # fmt: skip
    shaky = sessions[1]
    for minutes in (100, 70, 30):
        at = NOW - timedelta(minutes=minutes)
        SessionEvent.objects.create(session=shaky, at=at, kind="keepalive_timeout", before="connected",
                                    after="connected")  # fmt: skip
        SessionEvent.objects.create(session=shaky, at=at + timedelta(seconds=30), kind="disconnected",
                                    before="connected", after="reconnecting")  # fmt: skip
        SessionEvent.objects.create(session=shaky, at=at + timedelta(seconds=90), kind="connected",
                                    before="reconnecting", after="connected")  # fmt: skip
    Session.objects.filter(pk=sessions[0].pk).update(state="waiting")
    run = forecast(NOW)
    assert run.finding == Finding.GOOD, words.finding(run)
    assert run.precision > run.yesterday_precision
    assert 19 < run.days <= 20
    rows = {row.session_id: row for row in Forecast.objects.all()}
    assert sessions[0].pk not in rows  # not connected: there is nothing to lose
    assert (rows[young.pk].risk, rows[young.pk].hours) == (None, 5)
    assert all(0 <= (row.risk or 0) <= 1 for row in rows.values())
    assert rows[shaky.pk].risk == max(row.risk or 0 for row in rows.values()) > 2 * run.usual
    assert "missed keep-alives in the last 6 hours: 3" in words.reasons(rows[shaky.pk])
    ForecastRun.objects.update(at=NOW - timedelta(days=31))
    forecast(NOW)
    assert ForecastRun.objects.count() == 1


@pytest.mark.django_db
def test_an_empty_installation_has_no_forecast_and_says_why() -> None:
    run = forecast(NOW)
    assert run.finding == Finding.TOO_LITTLE
    assert not Forecast.objects.exists()
    assert "too little data" in words.finding(run)


@pytest.mark.django_db
def test_without_river_it_says_so(monkeypatch: pytest.MonkeyPatch, admin_client: Client) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(CommandError, match="requirements-forecast.txt"):
        call_command("forecast")
    monkeypatch.setattr(job, "find_spec", lambda name: None)
    assert job.forecast(timezone.now()) == {"started": 0}
    assert "river, which is not installed" in admin_client.get(reverse("health:forecast")).content.decode()


@pytest.mark.django_db
def test_the_job_starts_a_process_and_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def spawn(command: str) -> bool:
        started.append(command)
        return True

    monkeypatch.setattr(job, "spawn", spawn)
    assert job.forecast(timezone.now()) == {"started": 1}
    assert started == ["forecast"]


@pytest.mark.django_db(transaction=True)
def test_a_process_of_its_own_makes_it_and_ends(installation: Installation) -> None:
    process = installation.start("forecast", "manage.py", "forecast")
    wait_for(lambda: not process.running(), 60, installation.log("forecast"))
    assert ForecastRun.objects.get().finding == Finding.TOO_LITTLE
    assert "too little data" in process.log.read_text()


# -- where it is shown


def shown(at: datetime, finding: str = Finding.GOOD, **fields: Any) -> Session:
    session: Session = Account.objects.create(label="Front office").session
    run = ForecastRun.objects.create(at=at, finding=finding, hours=5000, days=14, drops=200, precision=0.5, recall=0.4,
                                     usual=0.03, threshold=0.3)  # fmt: skip
    reasons = [["timeouts_six", 1.0986], ["habit", 0.71]]
    values = {"risk": 0.62, "high": True, "hours": 300, "reasons": reasons, **fields}
    Forecast.objects.create(run=run, session=session, at=at, **values)
    return session


@pytest.mark.django_db
def test_the_risk_stands_on_the_accounts_page_with_its_reasons(admin_client: Client) -> None:
    session = shown(timezone.now() - timedelta(minutes=20))
    page = admin_client.get(reverse("admin:accounts_account_change", args=[session.account_id])).content.decode()
    for text in ("early warning", "62 % (usual: 3.0 %)", "missed keep-alives in the last 6 hours: 2",
                 "at this hour it was lost on about 71 % of earlier days"):  # fmt: skip
        assert text in page
    page = admin_client.get(reverse("health:forecast")).content.decode()
    for text in ("Front office", "62 %", "missed keep-alives", "Of its warnings about past hours 50 % were right"):
        assert text in page


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [{"at": timedelta(hours=2)}, {"finding": Finding.NO_BETTER},
                                    {"finding": Finding.TOO_LITTLE}])  # fmt: skip
def test_an_old_or_poor_forecast_is_not_shown(admin_client: Client, fields: dict[str, Any]) -> None:
    session = shown(timezone.now() - fields.pop("at", timedelta(minutes=5)), **fields)
    page = admin_client.get(reverse("admin:accounts_account_change", args=[session.account_id])).content.decode()
    assert "early warning" not in page
    assert "62 %" not in page
    page = admin_client.get(reverse("health:forecast")).content.decode()
    assert "62 %" not in page
    assert any(text in page for text in ("There is no forecast for this hour", "not good enough", "too little data"))


@pytest.mark.django_db
def test_of_a_young_account_it_says_how_much_is_missing(admin_client: Client) -> None:
    session = shown(timezone.now(), risk=None, high=False, hours=10, reasons=[])
    page = admin_client.get(reverse("admin:accounts_account_change", args=[session.account_id])).content.decode()
    assert "10 of 72 hours" in page


@pytest.mark.django_db
def test_the_page_is_for_those_who_may_see_health(client: Client) -> None:
    client.force_login(User.objects.create_user("budi", is_staff=True))
    assert client.get(reverse("health:forecast")).status_code == 403


def test_the_window_holds_what_the_features_look_at() -> None:
    assert timedelta(days=14) < WINDOW
    assert Path(__file__).parents[1].joinpath("requirements-forecast.txt").read_text().count("river==") == 1
