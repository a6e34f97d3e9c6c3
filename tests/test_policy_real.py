"""The retry policy and the watchdogs on the wire: the real library, and the simulator's log-in times as the judge."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sessions_app import retry
from sessions_app.host.host import _CALM
from sessions_app.models import FleetCause, RetryRule, Session, SessionCommand, SessionEvent
from sessions_app.whatsapp.client import Kind
from tests.contract_real import RealSide
from tests.installation import Installation, fresh, wait_for
from tests.wasim import Wasim

pytestmark = pytest.mark.real

SCALE = 0.05
_numbers = count(4_915_500_000_001)


@dataclass(frozen=True)
class Row:
    """What happens to one session, and after how many (unscaled) seconds each further log-in may come. Then none."""

    cause: Callable[[Wasim, str], object]
    waits: tuple[float, ...]
    state: str
    hold: str = ""
    scaled: bool = True


def refused(code: int, **more: int) -> Callable[[Wasim, str], object]:
    def cause(sim: Wasim, number: str) -> None:
        sim.faults.refuse(number, code, **more)
        sim.faults.drop(number)

    return cause


_PAUSE, _SPAN = retry.BREAKER_PAUSE.total_seconds(), retry.BREAKER_SPAN.total_seconds()
#: DESIGN.md "Retry policy", every row. The library's own reconnect after a drop is the first log-in, refused at once.
ROWS: dict[int | str, Row] = {
    408: Row(refused(408), (15, 30, 60, 120, _PAUSE), "waiting"),
    440: Row(lambda sim, number: sim.faults.conflict(number), (30, 60), "stopped", hold="conflict"),
    515: Row(lambda sim, number: sim.faults.stream_error(number, "515"), (), "connected"),
    402: Row(refused(402, expire=12), (12, 12), "banned", scaled=False),
    401: Row(refused(401), (), "logged_out"),
    403: Row(refused(403), (), "logged_out"),
    405: Row(refused(405), (600,), "outdated"),  # an edited row: see below
    retry.OTHER: Row(refused(599), (8, 16, 32, 64, _PAUSE), "waiting"),
    409: Row(refused(409), (8, 16, 32, 64, _PAUSE), "waiting"),
    500: Row(refused(500), (8, 16, 32, 64, _PAUSE), "waiting"),
    503: Row(refused(503), (8, 16, 32, 64, _PAUSE), "waiting"),
}


def test_the_table_above_has_every_row_of_the_policy() -> None:
    assert set(ROWS) >= set(retry.DEFAULTS)


def test_every_row_of_the_policy_is_kept_on_the_wire(installation: Installation, sim: Wasim) -> None:
    installation.environment["RETRY_TIME_SCALE"] = str(SCALE)
    # Staff edit a row, within its bounds, before it is needed: what counts is what they wrote.
    rule = RetryRule(code=405, first=600, growth=1, cap=600, jitter=0.2)
    rule.full_clean(validate_unique=False)
    rule.save()
    numbers = {code: str(next(_numbers)) for code in ROWS}
    sessions = {code: installation.paired(f"Row {code}", number) for code, number in numbers.items()}
    installation.start_host()
    installation.until_all(list(sessions.values()), "connected")
    began = {}
    for code, row in ROWS.items():
        began[code] = time.time()
        row.cause(sim, numbers[code])

    def attempts(code: int | str) -> list[float]:
        times = [at for at in sim.device(numbers[code]).login_times if at > began[code]]
        return [began[code], *times] if code == 440 else times  # its first failure is the conflict itself

    wait_for(lambda: all(len(attempts(code)) > len(row.waits) for code, row in ROWS.items()), 150,
             lambda: {code: len(attempts(code)) for code in ROWS})  # fmt: skip
    time.sleep(3)  # one more than allowed would come now
    wrong = []
    for code, row in ROWS.items():
        times = attempts(code)
        gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        for n, (gap, wait) in enumerate(zip(gaps, row.waits, strict=False)):
            if wait == _PAUSE and times[n] - times[0] > _SPAN * SCALE * 0.9:
                continue  # attempts are not scaled: on a slow machine five failures take longer than the breaker looks
            due = wait * (SCALE if row.scaled else 1)
            latest = due * (1 + retry.JITTER) * 1.1 + 2
            if not due - 0.01 <= gap <= latest:
                wrong.append(f"{code}: {gap:.2f} s instead of {due:.2f} to {latest:.2f} ({gaps})")
        if row.state in ("logged_out", "stopped", "connected") and len(gaps) > len(row.waits):
            wrong.append(f"{code}: it was tried again after {gaps}")
        session = fresh(sessions[code])
        if (session.state, session.hold) != (row.state, row.hold) and session.state != "connecting":
            wrong.append(f"{code}: {session.state} {session.hold!r} instead of {row.state}")
    assert not wrong, "\n".join(wrong)
    assert fresh(sessions[401]).account.phone == numbers[401]  # the account is kept
    assert fresh(sessions[500]).breaker_open
    assert FleetCause.objects.get().code == 405  # and none of the others, which are one session each
    for number in numbers.values():
        assert sim.most_live(number) == 1
        sim.faults.refuse(number, None)
        sim.faults.conflict(number, False)


class Rogue:
    """Another real client with a copy of the keys, that takes them back each time it is replaced."""

    def __init__(self, side: RealSide, store: Path) -> None:
        self._side, self._store = side, store
        self.log_ins = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            client = self._side.connect(str(self._store))
            client.seen.wait(Kind.CONNECTED)
            self.log_ins += 1
            while not self._over.wait(0.1):
                if client.seen.of(Kind.REPLACED):
                    break
            client.stop()

    def leave(self) -> None:
        self._over.set()
        self._thread.join(30)


def test_another_client_with_the_same_keys_sees_three_log_ins_of_ours_then_a_stop_and_one_command_recovers(
    installation: Installation, sim: Wasim, tmp_path: Path
) -> None:
    installation.environment["RETRY_TIME_SCALE"] = str(SCALE)
    number = str(next(_numbers))
    session = installation.paired("Front office", number)
    copy = tmp_path / "copy.sqlite3"
    shutil.copy(session.store_path, copy)
    installation.start_host()
    installation.until(session, "connected")
    mark = time.time()
    side = RealSide(tmp_path, sim)
    try:
        rogue = Rogue(side, copy)
        installation.until(session, "stopped", 60, hold="conflict")
        until = mark + 600 * SCALE
        time.sleep(max(0.0, until - time.time()))  # its ten minutes
        rogue.leave()
    finally:
        side.close()
    logins = [at for at in sim.device(number).login_times if at > mark]
    ours = len(logins) - rogue.log_ins
    assert rogue.log_ins >= 3
    assert ours <= 3
    # Not those that were "connected": a log-in may be replaced before the library says that it is one.
    assert ours == SessionEvent.objects.filter(session=session, kind="starting").count() - 1
    answer = installation.manage("sessions", "start", "Front office")
    assert answer.returncode == 0, answer.stderr
    assert fresh(session).state == "connected"


def test_a_zombie_is_found_and_healed_and_a_quiet_session_is_left_alone(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment |= {"KEEPALIVE_CHECK": "4", "PROBE_TIMEOUT": "3", "RETRY_REQUEST_DELAY": "1"}
    installation.environment["RETRY_TIME_SCALE"] = str(SCALE)
    zombie, quiet = str(next(_numbers)), str(next(_numbers))
    deaf, healthy = installation.paired("Zombie", zombie), installation.paired("Quiet", quiet)
    installation.start_host()
    installation.until_all([deaf, healthy], "connected")
    silenced = time.time()
    sim.faults.silence(zombie)
    # Connected by every flag of the library, deaf on the wire. In production 45 s of silence, twice 30 s for the probe
    # and 5 s between, and up to 5 s until the host looks: 115 s, within the 120; here 4, 3, 1 and 1.
    row = installation.until(deaf, "waiting", 30, reason="probe_failed", code=408)
    assert row.state_changed_at.timestamp() - silenced <= 4 + 3 + 1 + 3 + 2
    sim.faults.silence(zombie, False)
    installation.until(deaf, "connected", 30)
    assert sim.most_live(zombie) == 1
    time.sleep(max(0.0, silenced + 20 - time.time()))  # five times the silence that has a quiet one probed
    assert sim.device(quiet).logins == 1
    kinds = set(SessionEvent.objects.filter(session=healthy).values_list("kind", flat=True))
    assert kinds <= {"requested", "starting", "connected"}


def test_a_zombie_is_found_within_two_minutes_whatever_the_settings_defaults(settings: Any) -> None:
    waits = settings.KEEPALIVE_CHECK + 2 * settings.PROBE_TIMEOUT + settings.RETRY_REQUEST_DELAY
    assert (waits + _CALM * settings.HOST_POLL).total_seconds() <= 120
    assert [s.total_seconds() for s in (settings.CONNECT_TIMEOUT, settings.QUERY_TIMEOUT, settings.KEEPALIVE_CHECK,
                                        settings.RETRY_REQUEST_DELAY)] == [120, 120, 45, 5]  # fmt: skip


def test_a_request_that_is_never_answered_is_given_up_at_the_query_time_out(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment |= {"QUERY_TIMEOUT": "3", "RETRY_TIME_SCALE": str(SCALE)}
    number = str(next(_numbers))
    session: Session = installation.paired("Front office", number)
    installation.start_host()
    installation.until(session, "connected")
    sim.faults.silence(number)
    try:
        asked = time.time()
        command = session.request_logout("ana")
        row = installation.until(session, "waiting", 30, reason="query_timeout", code=408)
        assert 3 <= row.state_changed_at.timestamp() - asked <= 7
        wait_for(lambda: SessionCommand.objects.get(pk=command.pk).error, 20, installation.log("host-1"))
        assert "did not confirm" in SessionCommand.objects.get(pk=command.pk).error
    finally:
        sim.faults.silence(number, False)
    # It had been carried out, though nobody said so: the next log-in finds out.
    installation.until(session, "logged_out", 30, code=401)


def test_a_log_in_that_is_never_answered_is_stopped_at_the_connect_time_out(
    installation: Installation, sim: Wasim
) -> None:
    installation.environment |= {"CONNECT_TIMEOUT": "3", "RETRY_TIME_SCALE": str(SCALE)}
    number = str(next(_numbers))
    session: Session = installation.paired("Front office", number)
    sim.faults.silence(number)
    try:
        installation.start_host()
        row = installation.until(session, "waiting", 30, reason="connect_timeout", code=408)
        started = SessionEvent.objects.filter(session=session, kind="starting").latest("id")
        assert 3 <= (row.state_changed_at - started.at).total_seconds() <= 5
    finally:
        sim.faults.silence(number, False)
    installation.until(session, "connected", 30)
