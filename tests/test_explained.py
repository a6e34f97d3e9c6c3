"""Every automatic or staff action is an event with who and why, and one line of a session's page answers for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as settings_now
from django.utils import timezone

from accounts.models import Account
from sessions_app import cleanup
from sessions_app.host.decision import Act
from sessions_app.live_back import live_back
from sessions_app.models import Host, Session, SessionEvent
from sessions_app.models.event import OWN_KINDS
from sessions_app.timeline import BECAUSE, line
from sessions_app.whatsapp.client import Kind
from tests.test_host import Running, fresh, paired, running, until, wait_for

__all__ = ["running"]

#: Act -> the kind of event it leaves, or why it leaves none of its own.
LEAVES: dict[Act, str] = {
    Act.NOTHING: "nothing is done",
    Act.START: Kind.STARTING,
    Act.STOP: Kind.STOPPED,
    Act.DROP: "the client is over, and its end was written down as what ended it",
    Act.REST: Kind.STOPPED,
    Act.RELEASE: "released",
    Act.HAND_OVER: "released",
    Act.PROBE: "an answered probe changes nothing; an unanswered one is PROBE_FAILED",
    Act.CONNECT_TIMEOUT: Kind.CONNECT_TIMEOUT,
    Act.GRACE_ENDED: Kind.GRACE_ENDED,
    Act.DEAF: Kind.PROBE_FAILED,
    Act.RESET: Kind.RESET,
    Act.PAIR: Kind.PAIR_STARTED,
    Act.RESUME_PAIRING: Kind.PAIR_STARTED,
    Act.CLOSE_WINDOW: Kind.PAIR_FAILED,
    Act.CANCEL_PAIRING: Kind.PAIR_CANCELLED,
    Act.DROP_PAIRING: "the child is over, and its end was written down as what ended it",
    Act.LOG_OUT: Kind.LOGGED_OUT,
    Act.RESTART: Kind.STOPPED,
    Act.HOLD_BACK: Kind.HELD_BACK,
    Act.REFUSE: "refused",
}


def test_every_act_leaves_an_event_or_says_why_not() -> None:
    assert set(LEAVES) == set(Act)
    kinds = {*OWN_KINDS, *(kind.value for kind in Kind)}
    assert all(str(leaves) in kinds or " " in leaves for leaves in LEAVES.values())


def lines(session: Session, kind: str) -> list[str]:
    return [line(event).text for event in session.events.order_by("-id") if event.kind == kind]


@pytest.mark.django_db(transaction=True)
def test_why_was_this_session_restarted_is_answered_in_one_line(running: Running) -> None:
    row = paired(running)
    row.request_restart("ana")
    wait_for(lambda: len(lines(row, "starting")) == 2)
    assert lines(row, "starting")[0] == "started a client, because a restart was asked for → connecting · by ana"
    assert lines(row, "starting")[1].startswith("started a client, because the phone was just paired")
    until(row, "connected")
    running.fake.drop(row.store_path, reconnect=False)
    until(row, "waiting")
    until(row, "connected")
    assert "to try again after the connection was lost" in lines(row, "starting")[0]
    row.request_stop("ana")
    until(row, "stopped", host=None)
    assert "was given back by its host, because there is nothing to do for it · by host-1" in lines(row, "released")[0]
    command = row.request_logout("ben")
    wait_for(lambda: lines(row, "refused"))
    assert "connect it first" in lines(row, "refused")[0]
    assert command.pk
    assert not {fresh(row).state} & {"connected"}


@pytest.mark.django_db
def test_who_took_a_session_away_and_from_whom_is_told() -> None:
    now = timezone.now()
    host = Host.objects.create(name="host-1")
    session = Account.objects.create(label="x").session
    Session.objects.filter(pk=session.pk).update(
        state="connected", host=host, lease_epoch=3, lease_expires_at=now - timedelta(seconds=1)
    )
    assert Session.objects.expire_leases(now, "host-2") == 1
    assert Session.objects.expire_leases(now, "live_back") == 0
    event = SessionEvent.objects.get()
    assert (event.actor, event.epoch, event.before, event.after) == ("host-2", 3, "connected", "connected")
    assert event.evidence["owner"] == "host-1"
    assert lines(session, "lease_lost") == [
        "was taken from its host, because that host had gone silent (host-1) · by host-2"
    ]


@pytest.mark.django_db
def test_live_back_tells_what_nobody_owned_and_does_not_repeat_itself() -> None:
    session = Account.objects.create(label="x").session
    Session.objects.filter(pk=session.pk).update(state="waiting", store="x")
    now = timezone.now()
    for minutes in range(5):
        live_back(now + timedelta(minutes=minutes))
    assert lines(session, "marked") == [
        "was marked to be looked at, because it should be online and no host had it · by live_back"
    ]


@pytest.mark.django_db
def test_cleanup_tells_what_it_marks_and_what_it_closes() -> None:
    session = Account.objects.create(label="x").session
    now = timezone.now()
    session.request_logout("ana")
    Session.objects.update(state="connecting", state_changed_at=now - 2 * settings_now.CONNECT_TIMEOUT, due_at=None)
    cleanup.mark_stuck(now)
    cleanup.close_commands(now + timedelta(hours=2))
    assert lines(session, "marked") == ["was marked to be looked at, because it took longer than it may · by cleanup"]
    assert "No session host took this request" in lines(session, "refused")[0]
    assert lines(session, "refused")[0].endswith("by cleanup")


@pytest.mark.parametrize("words", BECAUSE.values())
def test_every_reason_can_be_filled(words: Any) -> None:
    assert "%(" not in str(words) % {"code": " (503)"}
