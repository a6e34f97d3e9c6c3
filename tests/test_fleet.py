"""A cause common to many sessions: found, one trial at a time, let go staggered."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Account
from sessions_app.explanations import explain
from sessions_app.fleet import Cause, Failed, Verdict, detect, judge
from sessions_app.fleet_watch import watch
from sessions_app.host.decision import Act, Limits, View, decide
from sessions_app.host.runner import Runner
from sessions_app.models import FleetCause, Host, Session, SessionEvent
from sessions_app.models.fleet_cause import begin_trial
from sessions_app.states import State
from tests.installation import Installation, fresh, live_host, wait_for
from tests.wasim import Wasim

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

_numbers = count(4_915_400_000_001)


# -- the rule


@pytest.mark.parametrize(
    ("failing", "sessions", "codes"),
    [
        ({503: 3}, 15, [503]),
        ({503: 3}, 16, []),  # less than a fifth
        ({503: 2}, 4, []),  # fewer than three
        ({503: 2, 408: 2}, 4, []),  # not with one code
        ({503: 20, 0: 30}, 100, [0, 503]),
        ({405: 1}, 100, [405]),  # it is the client version: one is enough to know
        ({}, 0, []),
    ],
)
def test_a_fifth_and_at_least_three_with_one_code_have_a_cause_in_common(
    failing: dict[int, int], sessions: int, codes: list[int]
) -> None:
    assert detect(failing, sessions) == codes


def failed(pk: int = 7, code: int = 503, **more: Any) -> Failed:
    fields: dict[str, Any] = {"state": State.WAITING, "attempts": 1, "failed_at": NOW, "retry_at": NOW + 8 * SECOND}
    return Failed(pk, code=code, **{**fields, **more})


def test_while_it_lasts_only_the_trial_may_start_and_not_before_its_own_time() -> None:
    cause = Cause(1, 503, trial=7)
    assert judge(failed(7), [cause]) == Verdict(NOW + 8 * SECOND, trial_of=cause)
    assert judge(failed(8), [cause]).held_by == cause


def test_another_code_and_what_staff_want_now_are_not_held() -> None:
    cause = Cause(1, 503, trial=7)
    for session in (failed(8, code=408), failed(8, attempts=0), failed(8, state=State.STOPPED)):
        assert judge(session, [cause]) == Verdict(session.retry_at)


def test_the_others_are_let_go_one_after_the_other_and_not_before_their_own_time() -> None:
    over = Cause(1, 503, ended_at=NOW + SECOND, affected=50)
    free = [judge(failed(pk, retry_at=NOW), [over]).retry_at for pk in range(50)]
    assert len(set(free)) == 50
    assert min(free) == NOW + SECOND  # type: ignore[type-var]
    assert max(free) <= NOW + 6 * SECOND  # type: ignore[operator,type-var]
    assert judge(failed(3, retry_at=NOW + timedelta(minutes=5)), [over]).retry_at == NOW + timedelta(minutes=5)


def test_a_thousand_are_let_go_within_a_minute() -> None:
    over = Cause(1, 503, ended_at=NOW, affected=1000)
    assert judge(failed(999, retry_at=NOW), [over]).retry_at <= NOW + timedelta(minutes=1)  # type: ignore[operator]


def test_what_failed_after_the_end_is_its_own_affair() -> None:
    over = Cause(1, 503, ended_at=NOW - SECOND, affected=50)
    assert judge(failed(3), [over]) == Verdict(NOW + 8 * SECOND)


def test_an_accepted_version_ends_the_six_hours_of_the_others() -> None:
    outdated = failed(3, code=405, state=State.OUTDATED, retry_at=NOW + timedelta(hours=6))
    over = Cause(1, 405, ended_at=NOW + SECOND, affected=10)
    assert judge(outdated, [over]).retry_at <= NOW + 2 * SECOND + SECOND  # type: ignore[operator]


def test_a_new_library_is_tried_at_once_by_the_trial_alone() -> None:
    outdated = failed(3, code=405, state=State.OUTDATED, retry_at=NOW + timedelta(hours=6))
    same, other = (judge(outdated, [Cause(1, 405, trial=3, library="1.0")], version) for version in ("1.0", "1.1"))
    assert same.retry_at == outdated.retry_at
    assert other.retry_at is None
    assert judge(outdated, [Cause(1, 405, trial=4, library="1.0")], "1.1").held_by


# -- on the rows


def waiting(code: int = 503, **fields: Any) -> Session:
    row: Session = Account.objects.create(label=str(next(_numbers))).session
    now = timezone.now()
    Session.objects.filter(pk=row.pk).update(**{
        "state": "waiting", "code": code, "attempts": 1, "state_changed_at": now, "retry_at": now, **fields
    })  # fmt: skip
    SessionEvent.objects.create(session=row, at=now, kind="connect_failed", code=code or None, after="waiting")
    return fresh(row)


@pytest.mark.django_db
def test_it_is_opened_once_and_follows_its_trial_to_the_end() -> None:
    rows = [waiting() for _ in range(3)]
    now = timezone.now()
    assert watch(now)["fleet_opened"] == 1
    assert watch(now)["fleet_opened"] == 0
    cause = FleetCause.objects.get()
    assert (cause.code, cause.affected, cause.trial) == (503, 3, rows[0])
    assert [begin_trial(cause.pk, row.pk, now) for row in rows] == [True, False, False]
    Session.objects.filter(pk=rows[0].pk).update(state="connected", connected_at=now)
    assert watch(now + 14 * SECOND)["fleet_closed"] == 0
    assert watch(now + 16 * SECOND)["fleet_closed"] == 1
    cause.refresh_from_db()
    assert cause.outcome == "trial_succeeded"
    assert begin_trial(cause.pk, rows[0].pk, now) is False
    assert watch(now + 17 * SECOND)["fleet_opened"] == 0  # the failures before its end do not open it again


@pytest.mark.django_db
def test_a_trial_that_cannot_be_it_any_more_is_replaced() -> None:
    rows = [waiting() for _ in range(4)]
    watch(timezone.now())
    for change in ({"hold": "conflict"}, {"state": "logged_out"}, {"code": 408}):
        trial = FleetCause.objects.get().trial
        assert trial is not None
        Session.objects.filter(pk=trial.pk).update(**change)
        watch(timezone.now())
        following = FleetCause.objects.get().trial
        assert following not in (trial, None)
    Account.objects.update(desired="offline")
    assert watch(timezone.now())["fleet_closed"] == 1
    assert FleetCause.objects.get().outcome == "nobody_left"
    assert len(rows) == 4


@pytest.mark.django_db
def test_a_trial_no_host_has_room_for_does_not_hold_the_others_up() -> None:
    waiting()
    host = Host.objects.create(name="host-1")
    owned = [waiting(host=host, retry_at=timezone.now() + SECOND) for _ in range(2)]
    watch(timezone.now())
    assert FleetCause.objects.get().trial == owned[0]
    Session.objects.filter(pk=owned[0].pk).update(host=None)
    watch(timezone.now())
    assert FleetCause.objects.get().trial == owned[1]


@pytest.mark.django_db
def test_there_is_at_most_one_per_code() -> None:
    FleetCause.objects.create(code=503, open_code=503, began_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        FleetCause.objects.create(code=503, open_code=503, began_at=NOW)


@pytest.mark.django_db
def test_failures_older_than_two_minutes_do_not_count() -> None:
    for _ in range(3):
        waiting()
    assert watch(timezone.now() + 121 * SECOND)["fleet_opened"] == 0


@pytest.mark.django_db
def test_a_failure_written_while_a_turn_of_the_host_goes_on_is_waited_for() -> None:
    runner = Runner(waiting(state="stopped", attempts=0, retry_at=None), cast(Any, None))
    runner.causes = [Cause(1, 503, trial=runner.row.pk)]
    assert decide(cast(View, runner.view()), timezone.now(), Limits()) is Act.START
    runner.row = waiting(retry_at=timezone.now() + 8 * SECOND)
    assert decide(cast(View, runner.view()), timezone.now(), Limits()) is Act.NOTHING


# -- on the wire


@pytest.mark.real
def test_on_two_hosts_only_the_trial_logs_in_until_it_stays_then_all_follow(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment |= {"RETRY_TIME_SCALE": "0.2"}
    numbers = [str(next(_numbers)) for _ in range(8)]
    for name in ("host-1", "host-2"):
        installation.start_host(name)
        wait_for(lambda name=name: live_host(name), 30)  # type: ignore[misc]
    sessions = [installation.paired(f"Account {n}", n) for n in numbers]
    installation.until_all(sessions, "connected")
    assert len({fresh(session).host for session in sessions}) == 2
    try:
        sim.faults.refuse("", 503)
        for number in numbers:
            sim.faults.drop(number)
        cause = wait_for(lambda: FleetCause.objects.select_related("trial").first(), 30, installation.log("host-1"))
        assert cause is not None
        assert cause.trial is not None
        held = [number for session, number in zip(sessions, numbers, strict=True) if session != cause.trial]
        time.sleep(1)  # what was under way when it was found
        before, mark = [sim.device(n).logins for n in held], time.time()
        trial_number = fresh(cause.trial).account.phone or ""
        wait_for(lambda: [t for t in sim.device(trial_number).login_times if t > mark], 60)
        wait_for(lambda: Session.objects.filter(reason="fleet").count() >= 5, 60, installation.log("host-1"))
        assert [sim.device(n).logins for n in held] == before
        row = Session.objects.filter(reason="fleet").first()
        assert row is not None
        assert "one of them is tried before the others" in explain(row, timezone.now()).sentence
        assert SessionEvent.objects.filter(session=row, kind="held_back").count() == 1
    finally:
        sim.faults.refuse("", None)
    wait_for(lambda: FleetCause.objects.filter(outcome="trial_succeeded").first(), 120, installation.log("host-1"))
    installation.until_all(sessions, "connected", 60)
    assert {sim.most_live(n) for n in numbers} == {1}
    starts = SessionEvent.objects.filter(session=cause.trial, kind="starting")
    assert any(event.evidence.get("why") == "fleet_trial" for event in starts)
