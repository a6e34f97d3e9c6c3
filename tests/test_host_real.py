"""The session host as a process, on the real library and the simulator: pairing, faults, many, SIGKILL."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import count

import psutil
import pytest

from accounts.models import Account
from sessions_app.models import Session, SessionCommand, SessionEvent
from tests.installation import Installation, fresh, live_host, wait_for
from tests.wasim import Wasim

pytestmark = pytest.mark.real

_numbers = count(4_915_200_000_001)


@pytest.fixture
def phone() -> str:
    return str(next(_numbers))


@pytest.fixture
def session(installation: Installation, phone: str, sim: Wasim) -> Iterator[Session]:
    """A connected session on host-1."""
    session = installation.paired("Front office", phone)
    installation.start_host()
    yield installation.until(session, "connected")
    for undo in (sim.faults.refuse, sim.faults.ack_error):
        undo(phone, None)
    sim.faults.silence(phone, False)


def test_a_scanned_code_connects_and_a_restart_needs_no_second_scan(
    installation: Installation, sim: Wasim, phone: str
) -> None:
    session = Account.objects.create(label="Front office").session
    host = installation.start_host()
    session.request_pairing("ana")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 20, installation.log("host-1"))
    assert row
    assert sim.phone(phone).scan(row.qr_text) == ""
    row = installation.until(session, "connected")
    assert (row.account.phone, row.platform, row.qr_text) == (phone, "android", "")
    host.kill()
    wait_for(lambda: sim.device(phone).live_sockets == 0)
    installation.start_host()
    wait_for(lambda: sim.device(phone).live_sockets == 1)
    installation.until(session, "connected")
    assert sim.most_live(phone) == 1
    assert installation.programs["host-1"].stop(10) == 0
    row = fresh(session)
    assert (row.state, row.reason, row.host) == ("stopped", "host_stopped", None)


def test_a_number_and_eight_characters_pair_as_well(installation: Installation, sim: Wasim, phone: str) -> None:
    session = Account.objects.create(label="Front office").session
    installation.start_host()
    session.request_pairing("ana", phone=phone)
    row = wait_for(lambda: (r := fresh(session)).pair_code and r, 20, installation.log("host-1"))
    assert row
    assert sim.phone(phone).enter_code(row.pair_code) == ""
    installation.until(session, "connected", pair_code="")


def test_another_phone_than_expected_is_unlinked_at_whatsapp(
    installation: Installation, sim: Wasim, phone: str
) -> None:
    session = Account.objects.create(label="Front office", phone="6281200000001").session
    installation.start_host()
    session.request_pairing("ana")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 20)
    assert row
    sim.phone(phone).scan(row.qr_text)
    row = installation.until(session, "unpaired", reason="wrong_number")
    assert row.detail == {"phone": phone, "expected": "6281200000001", "platform": "android"} or row.detail["phone"]
    wait_for(lambda: not sim.server.of(phone))


@pytest.mark.parametrize(("wrong", "reason"), [("hmac", "hmac_mismatch"), ("signature", "signature_mismatch")])
def test_a_phone_that_answers_wrongly_is_told_apart(
    installation: Installation, sim: Wasim, phone: str, wrong: str, reason: str
) -> None:
    session = Account.objects.create(label="Front office").session
    installation.start_host()
    session.request_pairing("ana")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 20)
    assert row
    sim.phone(phone).scan(row.qr_text, wrong)
    installation.until(session, "unpaired", reason=reason)


#: NEONIZE.md "What each fault looks like": refused log-ins. Code -> state, reason, code.
REFUSED = {
    401: ("logged_out", "logged_out", 401),
    402: ("banned", "banned", 402),
    403: ("logged_out", "main_device_gone", 403),
    405: ("outdated", "outdated", 405),
    408: ("waiting", "refused", 408),
    409: ("waiting", "refused", 409),
    500: ("waiting", "refused", 500),
    503: ("waiting", "refused", 503),
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refused_log_in_ends_as_the_table_says(
    installation: Installation, session: Session, sim: Wasim, phone: str, code: int
) -> None:
    sim.faults.refuse(phone, code)
    sim.faults.drop(phone)
    state, reason, shown = REFUSED[code]
    row = installation.until(session, state, reason=reason, code=shown)
    if state == "logged_out":
        assert row.store == ""
        wait_for(lambda: fresh(session).host is None)
    else:
        assert row.retry_at is not None
        assert row.store


def test_a_drop_comes_back_by_itself(installation: Installation, session: Session, sim: Wasim, phone: str) -> None:
    sim.faults.drop(phone)
    wait_for(lambda: sim.device(phone).accepted_logins == 2)
    events = SessionEvent.objects.filter(session=session).order_by("id").values_list("kind", flat=True)
    wait_for(lambda: list(events.all())[-2:] == ["disconnected", "connected"], 20, lambda: list(events.all()))
    assert fresh(session).state == "connected"


@pytest.mark.parametrize("code", ["503", "599"])
def test_a_stream_error_is_left_to_the_library(
    installation: Installation, session: Session, sim: Wasim, phone: str, code: str
) -> None:
    sim.faults.stream_error(phone, code)
    wait_for(lambda: sim.device(phone).accepted_logins == 2)
    installation.until(session, "connected")
    assert SessionEvent.objects.filter(session=session, kind="stream_error", code=int(code)).exists()


def test_a_conflict_waits_half_a_minute(
    installation: Installation, session: Session, sim: Wasim, phone: str
) -> None:
    sim.faults.stream_error(phone, conflict="replaced")
    row = installation.until(session, "waiting", reason="conflict", code=440)
    assert row.retry_at is not None
    assert 3 <= (row.retry_at - row.state_changed_at).total_seconds() <= 3.7  # 30 s at the tests' tenth
    installation.until(session, "connected")


def test_a_device_removed_on_the_phone_asks_for_a_pairing(
    installation: Installation, session: Session, sim: Wasim, phone: str
) -> None:
    sim.faults.remove_device(phone)
    installation.until(session, "logged_out", reason="removed_on_phone", code=401)


def test_a_broken_network_is_waited_out(installation: Installation, session: Session, sim: Wasim, phone: str) -> None:
    sim.faults.break_network("refused")
    sim.faults.drop(phone)
    installation.until(session, "waiting")
    installation.until(session, "waiting", reason="proxy_refused")
    sim.faults.break_network("")
    installation.until(session, "connected")


def test_log_out_unlinks_at_whatsapp(installation: Installation, session: Session, sim: Wasim, phone: str) -> None:
    session.request_logout("ana")
    installation.until(session, "logged_out", reason="by_staff")
    assert not sim.server.of(phone)


def test_fifty_abandoned_pairings_leave_nothing_behind(installation: Installation, sim: Wasim) -> None:
    session = Account.objects.create(label="Front office").session
    host = psutil.Process(installation.start_host().pid)
    wait_for(live_host, 20)

    def footprint() -> tuple[int, int, int]:
        return host.num_threads(), host.num_fds(), len(host.children())

    def abandon() -> None:
        session.request_pairing("ana")
        wait_for(lambda: fresh(session).qr_text, 20, installation.log("host-1"))
        session.cancel_pairing("ana")
        wait_for(
            lambda: (r := fresh(session)).state == "unpaired" and r.host is None, 20,
            lambda: (fresh(session).__dict__, list(SessionCommand.objects.filter(finished_at=None).values()),
                     installation.log("host-1")()),
        )  # fmt: skip

    abandon()  # what is made once, is made now
    abandon()
    before = footprint()
    for _ in range(50):
        abandon()
    wait_for(lambda: not host.children())
    after = footprint()
    assert after[2] == before[2] == 0
    assert after[0] <= before[0] + 8  # the pools' threads come one by one
    assert after[1] <= before[1] + 1
    assert not list((installation.folder / "devices").glob("*.sqlite3*"))


def test_twenty_at_once_survive_and_a_killed_host_brings_all_twenty_back(
    installation: Installation, sim: Wasim
) -> None:
    numbers = [str(next(_numbers)) for _ in range(20)]
    sessions = [installation.paired(f"Account {n}", n) for n in numbers]
    host = installation.start_host()
    wait_for(lambda: sum(sim.device(n).live_sockets for n in numbers) >= 10, 60, installation.log("host-1"))
    host.kill()
    installation.start_host()
    wait_for(lambda: all(sim.device(n).live_sockets == 1 for n in numbers), 60, installation.log("host-1"))
    installation.until_all(sessions, "connected")
    assert [sim.most_live(n) for n in numbers] == [1] * 20


def test_a_paused_host_that_wakes_up_writes_nothing(
    installation: Installation, sim: Wasim, phone: str
) -> None:
    short = {"LEASE": "4", "LEASE_RENEWAL": "1"}
    session = installation.paired("Front office", phone)
    installation.environment.update(short)
    paused = installation.start_host("host-1")
    installation.until(session, "connected")
    paused.send(signal.SIGSTOP)
    installation.start_host("host-2")
    # Its event, not the row's state: that is still the paused host's until the other one starts.
    wait_for(SessionEvent.objects.filter(session=session, host_name="host-2", kind="connected").exists, 30)
    row = installation.until(session, "connected", 30)
    events = SessionEvent.objects.filter(session=session, host_name="host-1").count()
    paused.send(signal.SIGCONT)
    wait_for(lambda: not paused.running(), 10)
    time.sleep(0.5)
    assert fresh(session).lease_epoch == row.lease_epoch
    assert SessionEvent.objects.filter(session=session, host_name="host-1").count() == events
    assert fresh(session).state == "connected"
