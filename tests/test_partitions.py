"""Two hosts on machines of their own, on MariaDB, Redis and PostgreSQL (make test-services): what is cut off from what.

What Ownership promises: never two clients of one account, whoever is cut off ends its clients before its leases run
out, another host takes over, and what is observed is written once.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import count, pairwise
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from messaging.models import Message
from monitoring import causes
from sessions_app.models import FleetCause, Host, Session, SessionEvent
from sessions_app.whatsapp import postgres_store
from tests.installation import Installation, Program, fresh, live_host, wait_for
from tests.machine import Machine, machine
from tests.test_messages_real import inbox, queue
from tests.test_postgres_stores import pair
from tests.wasim import Wasim

DATABASE, REDIS = os.environ.get("TEST_DATABASE_URL", ""), os.environ.get("TEST_REDIS_URL", "")
DEVICES = os.environ.get("TEST_DEVICE_STORE_URL", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DATABASE.startswith("mysql") and REDIS and DEVICES),
                       reason="these need MariaDB, Redis and PostgreSQL (make test-services)"),
]  # fmt: skip

_numbers = count(4_915_700_000_001)
#: Short, so that a test sees a lease run out, and silence noticed.
SHORT = {"LEASE": "6", "LEASE_RENEWAL": "1.5", "KEEPALIVE_CHECK": "3", "PROBE_TIMEOUT": "3"}
#: Cable -> the setting it serves.
CABLES = {"database": "DATABASE_URL", "redis": "REDIS_URL", "devices": "DEVICE_STORE_URL", "whatsapp": "WHATSAPP_PROXY"}


class Two:
    """host-1 and host-2, each on a machine of its own with a disk of its own; accounts are paired on host-1."""

    def __init__(self, installation: Installation, sim: Wasim) -> None:
        self.installation, self.sim = installation, sim
        self.urls = {cable: installation.environment[setting] for cable, setting in CABLES.items()}
        self.machines = {f"host-{n}": machine(f"box-{n}", self.urls) for n in (1, 2)}
        self.cut, self.mend = self.machines["host-1"].cut, self.machines["host-1"].mend
        self.numbers: list[str] = []
        self.rows: list[Session] = []

    def settings(self, box: Machine) -> dict[str, str]:
        """Return what leads a process on that machine to the servers; its disk is its own."""
        return {CABLES[cable]: url for cable, url in box.urls.items()} | {
            "VAR_DIR": str(self.installation.folder / box.name)}  # fmt: skip

    def started(self, name: str, *options: str) -> Program:
        """Start a host on its machine and wait until it takes part."""
        box = self.machines[name]
        program = self.installation.start_host(name, *options, on=box, **self.settings(box))
        row = wait_for(lambda: (h := live_host(name)) and h.pid == program.pid and h, 30, self.installation.log(name))
        assert row
        return program

    def begin(self, accounts: int = 2) -> Program:
        """Start host-1 and pair accounts there."""
        program = self.started("host-1")
        self.numbers = [str(next(_numbers)) for _ in range(accounts)]
        self.rows = [pair(self.installation, self.sim, f"Account {n}", n) for n in self.numbers]
        assert self.owners() == {"host-1": accounts}
        return program

    def owners(self) -> dict[str, int]:
        """Return how many sessions each host owns."""
        return dict(Counter(str(fresh(row).host) for row in self.rows))

    def look(self) -> list[tuple[Any, ...]]:
        """Return what the rows say, for a failure."""
        return [(r.state, str(r.host), r.reason, r.code, r.attempts, r.retry_at) for r in map(fresh, self.rows)]

    def connected(self, **owners: int) -> None:
        """Wait until all are connected, so many on each host, as the rows and WhatsApp see it."""
        wanted = {name.replace("_", "-"): number for name, number in owners.items()}
        wait_for(lambda: {fresh(row).state for row in self.rows} == {"connected"} and self.owners() == wanted, 90,
                 self.look)  # fmt: skip
        wait_for(lambda: [self.sim.device(n).live_sockets for n in self.numbers] == [1] * len(self.numbers))

    def drop(self) -> None:
        """Have WhatsApp end all connections."""
        for number in self.numbers:
            self.sim.faults.drop(number)

    def logged_in_again(self, since: list[int]) -> None:
        """Wait until all have logged in once more."""
        wait_for(lambda: all(now > then for now, then in zip(self.logins(), since, strict=True)), 30)

    def logins(self) -> list[int]:
        """Return how often each account has logged in."""
        return [self.sim.device(number).accepted_logins for number in self.numbers]

    def written(self) -> list[list[tuple[str, str]]]:
        """Return what was written of each account, in order: what, by which host."""
        return [
            list(SessionEvent.objects.filter(session=row).order_by("id").values_list("kind", "host_name"))
            for row in self.rows
        ]

    def wrote(self, since: list[list[tuple[str, str]]], *kinds: str) -> None:
        """Wait until host-1 wrote this of every account, in this order; fail when it wrote anything else."""
        wanted = [[*earlier, *((kind, "host-1") for kind in kinds)] for earlier in since]
        wait_for(lambda: sum(map(len, self.written())) >= sum(map(len, wanted)), 45, self.installation.log("host-1"))
        assert self.written() == wanted

    def keep_their_promises(self, since: float = float("inf")) -> None:
        """Never two clients of one account, and what was observed is written once.

        Cut off from WhatsApp, a client that ended leaves a socket there that nobody could close: `since` then (seconds
        since 1970), when it was seen to have ended, WhatsApp may see its successor beside it.
        """
        for number in self.numbers:
            assert all(at > since for at in self.sim.device(number).doubled_at), (number, since)
        assert not SessionEvent.objects.filter(kind="replaced").exists()
        for row in self.rows:
            events = list(SessionEvent.objects.filter(session=row).order_by("id"))
            seen = Counter((e.kind, e.epoch, e.at) for e in events)
            assert max(seen.values()) == 1, seen.most_common(1)
            for earlier, later in pairwise(events):
                assert later.before == earlier.after, (row.pk, [(e.kind, e.before, e.after) for e in events])
                assert later.epoch >= earlier.epoch

    def last_words(self, name: str) -> float:
        """Return when a host said, right before its end, that it could not renew its leases (seconds since 1970)."""
        lines = self.installation.programs[name].log.read_text().splitlines()
        said = [json.loads(line) for line in lines if "could not be renewed in time" in line]
        return datetime.fromisoformat(said[-1]["at"]).timestamp()

    def close(self) -> None:
        self.installation.close()
        for box in self.machines.values():
            box.close()
        for name in Session.objects.exclude(store="").values_list("store", flat=True):
            postgres_store.delete(postgres_store.address(DEVICES, name))


@pytest.fixture
def two(installation: Installation, sim: Wasim, settings: Any) -> Iterator[Two]:
    settings.DEVICE_STORE_URL = DEVICES
    installation.environment |= {**SHORT, "REDIS_URL": REDIS, "DEVICE_STORE_URL": DEVICES}
    two = Two(installation, sim)
    yield two
    two.close()


@pytest.mark.parametrize(
    "cut", [["database"], ["database", "redis"], ["database", "devices"], list(CABLES)],
    ids=["database", "database and redis", "database and keys", "everything"],
)  # fmt: skip
def test_cut_off_from_the_database_its_clients_end_before_the_leases_do(two: Two, cut: list[str]) -> None:
    first = two.begin()
    two.started("host-2")
    epochs = [fresh(row).lease_epoch for row in two.rows]
    two.cut(*cut)
    leases = [fresh(row).lease_expires_at for row in two.rows]
    wait_for(lambda: not first.running(), 20, two.installation.log("host-1"))
    ended = two.last_words("host-1")
    assert all(lease is not None and ended < lease.timestamp() for lease in leases)
    two.connected(host_2=2)
    assert all(fresh(row).lease_epoch > epoch for row, epoch in zip(two.rows, epochs, strict=True))
    two.mend()
    two.started("host-1")  # as a supervisor does
    two.connected(host_2=2)  # a host that comes back takes nothing by force
    two.keep_their_promises(since=ended if "whatsapp" in cut else float("inf"))


def test_what_is_observed_while_the_database_is_away_is_written_once(two: Two) -> None:
    two.installation.environment["LEASE"] = "60"
    first = two.begin()
    two.started("host-2")
    logins, written = two.logins(), two.written()
    two.cut("database")
    two.drop()
    two.logged_in_again(logins)
    assert two.written() == written
    two.mend()
    two.wrote(written, "disconnected", "connected")
    assert first.running()
    two.connected(host_1=2)
    two.keep_their_promises()


@contextlib.contextmanager
def no_new_events() -> Iterator[None]:
    """Hold up, in the database, whoever wants to write down an event."""
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # which locks the gap at the end
            cursor.execute("SELECT id FROM sessions_app_sessionevent WHERE id > 1000000 FOR UPDATE")
        yield
        other.rollback()
    finally:
        other.close()


def held_up() -> int:
    """Return how many transactions wait for another."""
    time.sleep(0.15)  # what is asked more often than every 0.1 s is not looked up anew
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
        return int(cursor.fetchone()[0])


def test_a_transaction_its_machine_cannot_end_any_more_holds_nobody_up(two: Two) -> None:
    """Cut off between two statements, a host leaves rows locked that another has to take over."""
    first = two.begin()
    second = two.started("host-2")
    with no_new_events():
        two.drop()
        wait_for(held_up)  # the host has changed a session's row and wants to add the event
        two.cut("database")
    wait_for(lambda: not first.running(), 20, two.installation.log("host-1"))
    two.connected(host_2=2)
    assert second.running()
    two.mend()
    two.keep_their_promises()


def test_cut_off_from_redis_nothing_is_lost_but_hints(two: Two) -> None:
    first = two.begin()
    two.started("host-2")
    logins, written = two.logins(), two.written()
    two.cut("redis")
    two.drop()
    two.logged_in_again(logins)
    two.wrote(written, "disconnected", "connected")
    two.connected(host_1=2)
    assert first.running()
    two.mend()
    two.keep_their_promises()


def test_cut_off_from_whatsapp_its_sessions_wait_and_come_back(two: Two) -> None:
    first = two.begin()
    two.started("host-2")
    two.cut("whatsapp")
    wait_for(lambda: all(fresh(row).state == "waiting" for row in two.rows), 60, two.look)
    ended = time.time()
    assert first.running()
    assert two.owners() == {"host-1": 2}  # nobody knows that another host would fare better
    two.mend()
    two.connected(host_1=2)
    two.keep_their_promises(since=ended)


def test_a_host_cut_off_from_whatsapp_is_told_of_and_drained(two: Two) -> None:
    two.begin(3)
    two.started("host-2")
    two.cut("whatsapp")
    wait_for(lambda: FleetCause.objects.ongoing().exists(), 60, two.look)
    ended = time.time()
    told = [fact for fact in causes.facts(timezone.now()) if fact.cause == "fleet"]
    assert [(fact.evidence["sessions"], fact.evidence["hosts"]) for fact in told] == [(3, ["host-1"])]
    Host.objects.get(name="host-1").drain("ana", "does not reach WhatsApp")
    two.connected(host_2=3)
    wait_for(lambda: not FleetCause.objects.ongoing().exists(), 60)
    two.keep_their_promises(since=ended)


def test_cut_off_from_the_device_keys_it_comes_back_with_them(two: Two) -> None:
    first = two.begin()
    two.started("host-2")
    two.cut("devices")
    two.drop()
    wait_for(lambda: all(fresh(row).state != "connected" for row in two.rows), 60, two.look)
    two.mend()
    two.connected(host_1=2)
    assert first.running()
    two.keep_their_promises()


@pytest.mark.parametrize("cut", [["database"], list(CABLES)], ids=["database", "everything"])
def test_messages_to_a_host_that_is_cut_off_arrive_once(two: Two, cut: list[str]) -> None:
    """They wait at WhatsApp for the next client, or on the disk of the machine for its next host."""
    two.installation.environment["PACING"] = "0"
    first = two.begin(4)
    two.started("host-2")
    two.connected(host_1=3, host_2=1)
    [sender] = [row for row in two.rows if str(fresh(row).host) == "host-2"]
    there = [row for row in two.rows if row != sender]
    two.cut(*cut)
    texts = [f"Selamat pagi {n}" for n in range(3)]
    for text in texts:
        for row in there:
            queue(sender, str(fresh(row).account.phone), text)
    wait_for(lambda: not Message.objects.filter(account=sender.account).exclude(state__in=["sent", "delivered"]), 30,
             two.installation.log("host-2"))  # fmt: skip
    wait_for(lambda: not first.running(), 20, two.installation.log("host-1"))
    ended = two.last_words("host-1")
    two.connected(host_2=4)
    two.mend()
    two.started("host-1")
    wait_for(lambda: all(len(inbox(row.account)) >= len(texts) for row in there), 45,
             lambda: [[each.text for each in inbox(row.account)] for row in there])  # fmt: skip
    assert [[each.text for each in inbox(row.account)] for row in there] == [texts] * 3
    two.keep_their_promises(since=ended)


def test_a_host_that_is_added_takes_its_share_and_one_that_is_drained_gives_what_fits(two: Two) -> None:
    two.begin(4)
    second = two.started("host-2", "--capacity", "3")
    two.connected(host_1=3, host_2=1)  # one more than its share stays where it is
    Host.objects.get(name="host-1").drain("ana")
    two.connected(host_1=1, host_2=3)  # better on a draining host than on none
    assert second.stop() == 0
    Host.objects.get(name="host-1").undrain("ana")
    two.connected(host_1=4)
    two.keep_their_promises()


def test_a_name_is_taken_while_its_host_lives_on_another_machine(two: Two) -> None:
    two.begin()
    box = two.machines["host-2"]
    second = two.installation.start("second", "manage.py", "run_session_host", "--name", "host-1", on=box,
                                    **two.settings(box))  # fmt: skip
    wait_for(lambda: not second.running(), 30, two.installation.log("second"))
    assert "A session host named host-1 already runs" in two.installation.log("second")()
    two.connected(host_1=2)
    two.keep_their_promises()
