"""The session host with the scripted fake, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from sessions_app.host import recycling
from sessions_app.host.decision import Act, Limits, decide
from sessions_app.host.host import SessionHost
from sessions_app.host.runner import Runner
from sessions_app.host.writer import Entry
from sessions_app.live_back import live_back
from sessions_app.models import Host, HostEvent, Session, SessionCommand, SessionEvent
from sessions_app.models.host import HostQuerySet
from sessions_app.transition import apply
from sessions_app.whatsapp.client import Kind, Observation
from sessions_app.whatsapp.fake import FakeWhatsApp

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = "4915112345678"
FAKES: list[FakeWhatsApp] = []


def new_fake(library: str = "", proxy: str = "") -> FakeWhatsApp:
    """settings.WHATSAPP_CLIENT of these tests: every host gets a client library of its own, on one server."""
    fake = FakeWhatsApp(library, proxy, FAKES[0].server) if FAKES else FakeWhatsApp(library, proxy)
    FAKES.append(fake)
    return fake


class Running:
    """Hosts in threads, and what a test asks of them."""

    def __init__(self) -> None:
        self.hosts: dict[str, tuple[SessionHost, threading.Thread]] = {}
        self.fake = new_fake()

    def start(self, name: str = "host-1") -> None:
        host = SessionHost(name, 50)

        def run() -> None:
            try:
                host.run()
            finally:
                connection.close()

        thread = threading.Thread(target=run, daemon=True)
        self.hosts[name] = host, thread
        thread.start()

    def stop(self, name: str) -> None:
        host, thread = self.hosts.pop(name)
        host.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def running(settings: Any, tmp_path: Path) -> Iterator[Running]:
    settings.WHATSAPP_CLIENT = "tests.test_host.new_fake"
    settings.DEVICES_DIR = settings.RUN_DIR = tmp_path
    settings.HOST_POLL = timedelta(seconds=0.05)
    settings.RECONNECT_GRACE = timedelta(seconds=0.5)
    settings.RETRY_TIME_SCALE, settings.HOST_STARTS_PER_SECOND = 0.05, 10
    FAKES.clear()
    running = Running()
    running.start()
    yield running
    for name in list(running.hosts):
        running.stop(name)


def wait_for(what: Callable[[], Any], seconds: float = 10) -> Any:
    until = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
    return value


def fresh(session: Session) -> Session:
    return Session.objects.select_related("account", "host").get(pk=session.pk)


def until(session: Session, state: str, **fields: Any) -> Session:
    def there() -> Session | None:
        row = fresh(session)
        fits = row.state == state and all(getattr(row, name) == value for name, value in fields.items())
        return row if fits else None

    try:
        row: Session = wait_for(there)
    except AssertionError:
        row = fresh(session)
        pytest.fail(f"{row.state} ({row.reason}, {row.code}) instead of {state} {fields}")
    return row


def paired(running: Running, label: str = "Front office", phone: str = PHONE) -> Session:
    session: Session = Account.objects.create(label=label).session
    session.request_pairing("test")
    row = wait_for(lambda: fresh(session).qr_text and fresh(session))
    running.fake.scan(row.pairing_store_path, phone=phone)
    return until(session, "connected")


def test_a_pairing_shows_codes_and_ends_connected(running: Running) -> None:
    session = Account.objects.create(label="Front office").session
    session.request_pairing("ana")
    row = wait_for(lambda: fresh(session).qr_text and fresh(session))
    assert row.state == "pairing"
    running.fake.scan(row.pairing_store_path, phone=PHONE, push_name="Front")
    row = until(session, "connected", qr_text="", push_name="Front")
    assert row.account.phone == PHONE
    assert row.paired_at
    assert row.connected_at
    events = list(SessionEvent.objects.filter(session=session).order_by("id").values_list("kind", flat=True))
    assert events == ["requested", "pair_started", "qr", "pair_scanned", "paired", "starting", "connected"]
    assert not [e for e in SessionEvent.objects.all() if "fake-qr" in str(e.evidence)]


def test_another_phone_than_expected_is_unlinked_and_named(running: Running) -> None:
    session = Account.objects.create(label="Front office", phone="6281200000001").session
    session.request_pairing("ana")
    row = wait_for(lambda: fresh(session).qr_text and fresh(session))
    running.fake.scan(row.pairing_store_path, phone=PHONE)
    row = until(session, "unpaired", reason="wrong_number")
    assert row.detail["phone"] == PHONE
    assert row.detail["expected"] == "6281200000001"
    wait_for(lambda: not Path(row.pairing_store_path or "/nowhere").exists())


def test_a_number_belongs_to_one_account_only(running: Running) -> None:
    paired(running)
    session = Account.objects.create(label="Second").session
    session.request_pairing("ana")
    row = wait_for(lambda: fresh(session).qr_text and fresh(session))
    running.fake.scan(row.pairing_store_path, phone=PHONE)
    row = until(session, "unpaired", reason="number_taken")
    assert row.detail["label"] == "Front office"
    assert fresh(session).account.phone is None


def test_codes_that_run_out_are_followed_by_new_ones_while_the_window_is_open(running: Running) -> None:
    session = Account.objects.create(label="Front office").session
    session.request_pairing("ana")
    first = wait_for(lambda: fresh(session).qr_text and fresh(session))
    running.fake.fail_pairing(first.pairing_store_path)
    second = wait_for(lambda: fresh(session).code_count == 2 and fresh(session))
    assert second.state == "pairing"
    assert second.pairing_expires_at == first.pairing_expires_at
    assert second.pairing_store != first.pairing_store


def test_the_window_closes_by_itself(running: Running, settings: Any) -> None:
    settings.PAIRING_WINDOW = timedelta(seconds=0.5)
    session = Account.objects.create(label="Front office").session
    session.request_pairing("ana")
    row = until(session, "unpaired", reason="qr_timeout")
    assert not row.qr_text
    wait_for(lambda: fresh(session).host is None)


def test_a_failed_second_pairing_goes_back_to_the_old_keys(running: Running) -> None:
    row = paired(running)
    row.request_pairing("ana")
    again = wait_for(lambda: fresh(row).qr_text and fresh(row))
    assert again.store == row.store
    again.cancel_pairing("ana")
    back = until(row, "connected")
    assert back.store == row.store


def test_a_drop_is_left_to_the_library_for_a_moment_then_to_the_policy(running: Running) -> None:
    row = paired(running)
    running.fake.drop(row.store_path, reconnect=False)
    until(row, "reconnecting", reason="dropped")
    until(row, "waiting", attempts=1)
    until(row, "connected")
    assert running.fake.server.most_live[row.store_path] == 1


def test_a_dead_socket_is_not_kept(running: Running) -> None:
    row = paired(running)
    running.fake.emit(row.store_path, Observation(Kind.CLIENT_DIED, None, {"error": "gone"}))
    until(row, "waiting", reason="client_died")
    wait_for(lambda: row.store_path not in running.fake.server.clients)


def test_the_third_conflict_stops_and_one_request_brings_it_back(running: Running) -> None:
    row = paired(running)
    for _ in range(2):
        running.fake.replace(row.store_path)
        until(row, "waiting", reason="conflict", code=440)
        until(row, "connected")
    running.fake.replace(row.store_path)
    until(row, "stopped", reason="conflict", hold="conflict")
    wait_for(lambda: fresh(row).host is None)
    fresh(row).request_start("ana")
    until(row, "connected", hold="")


def test_a_logged_out_account_keeps_its_number_and_asks_for_a_pairing(running: Running) -> None:
    row = paired(running)
    running.fake.remove_device(row.store_path)
    row = until(row, "logged_out", reason="removed_on_phone", store="")
    assert row.account.phone == PHONE
    wait_for(lambda: fresh(row).host is None)


def test_the_breaker_opens_after_five_failures_and_a_success_closes_it(running: Running) -> None:
    row = paired(running)
    running.fake.refuse(row.store_path, 503)
    running.fake.drop(row.store_path, reconnect=False)
    until(row, "waiting", reason="breaker_open", breaker_open=True, code=503)
    running.fake.refuse(row.store_path, 0, 0)
    fresh(row).request_start("ana")
    until(row, "connected", breaker_open=False)


def test_staff_stop_start_restart_and_log_out(running: Running) -> None:
    row = paired(running)
    row.request_stop("ana")
    until(row, "stopped", reason="by_staff", host=None)
    row.request_start("ana")
    until(row, "connected")
    starts = len(running.fake.server.starts)
    row.request_restart("ana")
    wait_for(lambda: len(running.fake.server.starts) == starts + 1)
    until(row, "connected")
    row.request_logout("ana")
    until(row, "logged_out", reason="by_staff")
    wait_for(lambda: not SessionCommand.objects.filter(finished_at=None).exists())
    assert {e.actor for e in SessionEvent.objects.filter(kind="requested")} == {"ana", "test"}


def test_log_out_while_offline_is_refused_with_a_sentence(running: Running) -> None:
    row = paired(running)
    row.request_stop("ana")
    until(row, "stopped", host=None)
    command = row.request_logout("ana")
    wait_for(lambda: SessionCommand.objects.get(pk=command.pk).finished_at)
    assert "connect it first" in SessionCommand.objects.get(pk=command.pk).error


def test_a_silent_session_is_probed_and_only_a_failed_probe_restarts_it(running: Running) -> None:
    row = paired(running)
    starts = len(running.fake.server.starts)
    client = running.fake.server.clients[row.store_path]
    client.silence = timedelta(minutes=5)
    time.sleep(0.5)
    assert len(running.fake.server.starts) == starts
    assert fresh(row).state == "connected"
    running.fake.silence(row.store_path)
    until(row, "waiting", reason="probe_failed", code=408)
    running.fake.server.deaf.clear()
    until(row, "connected")


def test_nothing_is_decided_for_a_quiet_session_and_whatever_happens_to_one_ends_that(running: Running) -> None:
    row = paired(running)
    host, _thread = running.hosts["host-1"]
    running.stop("host-1")  # so that nobody else looks
    limits = host._limits
    quiet = SimpleNamespace(silent_for=lambda: limits.silence - timedelta(seconds=1), stop=lambda: None)

    def runner(**changed: Any) -> Runner:
        made = Runner(Session.objects.select_related("account").get(pk=row.pk), host._means)
        made.row.state, made._client = "connected", quiet  # type: ignore[assignment]
        for name, value in changed.items():
            setattr(made, name, value)
        return made

    assert runner().is_quiet(limits)
    view = runner().view()
    assert view is not None
    assert decide(view, timezone.now(), limits) is Act.NOTHING
    deaf = SimpleNamespace(silent_for=lambda: limits.silence)
    for changed in (
        {"command": SessionCommand(verb="restart")}, {"leaving": True}, {"_drops": [0.0]}, {"_keepalive_timeouts": 1},
        {"_client": None}, {"_client": deaf}, {"_proxy": "http://other"}, {"_busy": True}, {"_pending": 1},
        {"gone": True}, {"causes": [object()]}, {"_pairing": object()},
    ):  # fmt: skip
        assert not runner(**changed).is_quiet(limits), changed
    for change in ({"state": "reconnecting"}, {"desired": "offline"}, {"proxy": "http://other"}):
        made = runner()
        for name, value in change.items():
            setattr(made.row if name == "state" else made.row.account, name, value)
        assert not made.is_quiet(limits), change


def test_a_second_host_takes_over_when_the_first_stops(running: Running) -> None:
    rows = [paired(running, f"Account {n}", f"491511234567{n}") for n in range(3)]
    running.start("host-2")
    other = wait_for(lambda: Host.objects.filter(name="host-2").first())
    running.stop("host-1")
    for row in rows:
        until(row, "connected", host=other)
        assert running.fake.server.most_live[row.store_path] == 1


def test_a_host_that_lost_its_lease_stops_its_client_and_writes_nothing(running: Running) -> None:
    row = paired(running)
    other = Host.objects.create(name="other", heartbeat_at=timezone.now())
    Session.objects.filter(pk=row.pk).update(
        host=other, lease_epoch=row.lease_epoch + 1, lease_expires_at=timezone.now() + timedelta(minutes=5), version=99
    )
    wait_for(lambda: row.store_path not in running.fake.server.clients)
    after = fresh(row)
    assert (after.state, after.version) == ("connected", 99)


def test_a_host_starts_again_before_what_the_library_leaves_behind_is_too_much(
    running: Running, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_RENEWAL = timedelta(seconds=0.1)
    monkeypatch.setattr(recycling, "YOUNGEST", 0.0)

    def has_started(times: int) -> bool:
        return len(running.fake.server.starts) == times

    row = paired(running)
    monkeypatch.setattr(recycling, "MOST_STARTS", 3 - 50)  # it has room for 50
    for starts in (2, 3):
        until(row, "connected")
        row.request_restart("ana")
        wait_for(partial(has_started, starts))
    host, thread = running.hosts.pop("host-1")
    thread.join(10)
    assert not thread.is_alive()
    assert host.exit_code == 75
    asked = HostEvent.objects.get(kind=HostEvent.RESTART)
    assert asked.actor == "host"
    assert "3 starts of clients" in asked.reason


@pytest.mark.parametrize(
    ("starts", "files", "age", "due"),
    [(1299, 799, 9999.0, False), (1300, 10, 3600.0, True), (10, 800, 3600.0, True), (9999, 999, 3599.0, False)],
)
def test_a_host_is_recycled_for_starts_and_files_but_not_again_at_once(
    starts: int, files: int, age: float, due: bool
) -> None:
    assert recycling.is_due(starts, 300, files, 1000, age) is due


def test_one_slow_account_does_not_delay_the_others(running: Running) -> None:
    slow = paired(running, "Slow", "4915100000001")
    gate = running.fake.hold_stop(slow.store_path)
    slow.request_stop("ana")
    quick = paired(running, "Quick", "4915100000002")
    quick.request_restart("ana")
    until(quick, "connected")
    gate.set()
    until(slow, "stopped")


def test_a_missing_store_is_said_and_not_retried(running: Running) -> None:
    row = paired(running)
    row.request_stop("ana")
    until(row, "stopped", host=None)
    Path(row.store_path).rename(row.store_path + ".away")
    row.request_start("ana")
    until(row, "stopped", hold="store_missing", host=None)


def test_important_accounts_come_first() -> None:
    now = timezone.now()
    for label, important in (("a", False), ("b", True)):
        session = Account.objects.create(label=label, important=important).session
        Session.objects.filter(pk=session.pk).update(due_at=now)
    first = Session.objects.claimable(now).order_by("-account__important", "due_at").first()
    assert str(first) == "b"


@pytest.mark.parametrize(("reason", "state"), [("host_restart", "waiting"), ("host_stopped", "waiting"),
                                               ("handed_over", "waiting"), ("by_staff", "stopped")])  # fmt: skip
def test_a_host_that_ends_does_not_end_the_wait_after_a_failure(reason: str, state: str) -> None:
    row: Session = Account.objects.create(label="x").session
    row.state, row.attempts, row.retry_at = "waiting", 1, timezone.now() + timedelta(seconds=8)
    wait = row.retry_at
    apply(row, Observation(Kind.STOPPED, None, {"reason": reason}), 0)
    assert (row.state, row.retry_at) == (state, wait if state == "waiting" else None)


def test_two_ticks_at_once_start_one_client(running: Running) -> None:
    row = paired(running)
    running.start("host-2")
    row.request_stop("ana")
    until(row, "stopped", host=None)
    starts = len(running.fake.server.starts)
    Account.objects.update(desired="online")
    Session.objects.update(due_at=None, checked_at=None, state="waiting")

    def tick() -> None:
        live_back(timezone.now())
        connection.close()

    ticks = [threading.Thread(target=tick) for _ in range(4)]
    for thread in ticks:
        thread.start()
    for thread in ticks:
        thread.join(10)
    until(row, "connected")
    time.sleep(0.3)
    assert len(running.fake.server.starts) == starts + 1
    assert SessionEvent.objects.filter(session=row, kind="marked").count() == 1


def test_two_hosts_cannot_claim_one_session() -> None:
    hosts = [Host.objects.create(name=name) for name in ("a", "b")]
    session = Account.objects.create(label="x").session
    now = timezone.now()
    Session.objects.filter(pk=session.pk).update(due_at=now)
    assert [Session.objects.claim(session.pk, host, now) for host in hosts] == [True, False]


def test_a_draining_host_gives_no_more_than_fits_while_another_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    ours, other = (Host.objects.create(name=name, capacity=3, heartbeat_at=now) for name in ("host-1", "host-2"))
    owned, given = (Account.objects.create(label=label).session for label in ("a", "b"))
    Session.objects.filter(pk=owned.pk).update(host=other, due_at=None)
    Session.objects.filter(pk=given.pk).update(host=None, due_at=now)
    loads = HostQuerySet.loads

    def claimed_behind(hosts: HostQuerySet) -> dict[int, tuple[int, int]]:
        found = loads(hosts)
        Session.objects.filter(pk=given.pk).update(host=other, due_at=None)
        return found

    monkeypatch.setattr(HostQuerySet, "loads", claimed_behind)
    host = SessionHost("host-1", 3)
    host._row = ours
    host._look_around(now + timedelta(seconds=1))
    assert host._room == 1


def test_a_release_keeps_a_wish_that_arrived_meanwhile() -> None:
    host = Host.objects.create(name="a")
    session = Account.objects.create(label="x").session
    now = timezone.now()
    Session.objects.filter(pk=session.pk).update(due_at=now)
    Session.objects.claim(session.pk, host, now)
    row = fresh(session)
    row.request_pairing("ana")
    assert row.release(None) is False
    assert fresh(session).host == host


class LastWords:
    """A pairing, and the writer it reports to: asked whether it is alive, it has just failed and is not."""

    runner: Runner

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.put = self.entries.append

    def alive(self) -> bool:
        if not self.entries:
            self.runner.note(Kind.PAIR_FAILED, None, reason="signature_mismatch")
        return False


def test_a_pairing_that_failed_this_moment_is_not_taken_up_again() -> None:
    row = Account.objects.create(label="x").session
    apply(
        row, Observation(Kind.PAIR_STARTED, None, {"expires_at": (timezone.now() + timedelta(hours=1)).isoformat()}), 0
    )
    pairing = LastWords()
    runner = pairing.runner = Runner(row, Mock(writer=pairing))
    runner._pairing = cast(Any, pairing)
    assert row.state == "pairing"
    assert runner.view() is None
    entry = pairing.entries[0]
    entry.written(apply(row, entry.seen, 0))
    view = runner.view()
    assert view is not None
    assert decide(view, timezone.now(), Limits()) is Act.RELEASE
