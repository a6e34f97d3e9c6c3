"""Two hosts on MariaDB, Redis and PostgreSQL (make test-services): one is cut off from each of them, and from WhatsApp.

What Ownership promises: never two clients of one account, whoever is cut off ends its clients before its leases run
out, another host takes over, and what is observed is written once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest

from sessions_app.models import Session, SessionEvent
from sessions_app.whatsapp import postgres_store
from tests.cable import Cable
from tests.installation import Installation, Program, fresh, live_host, wait_for
from tests.test_postgres_stores import pair
from tests.wasim import Wasim

DATABASE, REDIS = os.environ.get("TEST_DATABASE_URL", ""), os.environ.get("TEST_REDIS_URL", "")
DEVICES = os.environ.get("TEST_DEVICE_STORE_URL", "")

pytestmark = [
    pytest.mark.real, pytest.mark.timeout(300),
    pytest.mark.skipif(not (DATABASE.startswith("mysql") and REDIS and DEVICES),
                       reason="these need MariaDB, Redis and PostgreSQL (make test-services)"),
]  # fmt: skip

_numbers = count(4_915_700_000_001)
#: Short, so that a test sees a lease run out, and silence noticed.
SHORT = {"LEASE": "6", "LEASE_RENEWAL": "1.5", "KEEPALIVE_CHECK": "3", "PROBE_TIMEOUT": "3"}


def through(url: str) -> tuple[Cable, str]:
    """Return a cable to what a URL names, and the URL that leads through it."""
    parts = urlsplit(url)
    cable = Cable(parts.hostname or "127.0.0.1", parts.port or 0)
    return cable, re.sub(rf"{parts.hostname}:{parts.port}", f"127.0.0.1:{cable.port}", url)


class Two:
    """host-1 behind cables, host-2 without."""

    def __init__(self, installation: Installation, sim: Wasim) -> None:
        self.installation, self.sim = installation, sim
        environment = installation.environment
        self.cables: dict[str, Cable] = {}
        self.behind: dict[str, str] = {}
        for name, setting in (("database", "DATABASE_URL"), ("redis", "REDIS_URL"), ("devices", "DEVICE_STORE_URL"),
                              ("whatsapp", "WHATSAPP_PROXY")):  # fmt: skip
            self.cables[name], self.behind[setting] = through(environment[setting])
        self.numbers = [str(next(_numbers)) for _ in range(2)]
        self.first = self.start_first()
        wait_for(lambda: live_host("host-1"), 30, installation.log("host-1"))
        self.rows = [pair(installation, sim, f"Account {n}", n) for n in self.numbers]
        assert {str(fresh(row).host) for row in self.rows} == {"host-1"}

    def start_first(self) -> Program:
        return self.installation.start_host("host-1", **self.behind)

    def start_second(self) -> None:
        self.installation.start_host("host-2")
        wait_for(lambda: live_host("host-2"), 30, self.installation.log("host-2"))

    def cut(self, *names: str) -> None:
        for name in names or self.cables:
            self.cables[name].cut()

    def mend(self) -> None:
        for cable in self.cables.values():
            cable.mend()

    def connected_on(self, name: str, seconds: float = 60) -> None:
        """Wait until all are connected on that host, as the rows and WhatsApp see it."""
        def there() -> bool:
            rows = [fresh(row) for row in self.rows]
            return all(row.state == "connected" and str(row.host) == name for row in rows)

        wait_for(there, seconds, lambda: [(fresh(r).state, str(fresh(r).host), fresh(r).reason) for r in self.rows])
        wait_for(lambda: [self.sim.device(n).live_sockets for n in self.numbers] == [1, 1])

    def one_at_a_time(self) -> None:
        assert [self.sim.most_live(n) for n in self.numbers] == [1, 1]
        assert not SessionEvent.objects.filter(kind="replaced").exists()

    def close(self) -> None:
        for cable in self.cables.values():
            cable.close()
        self.installation.close()
        for name in Session.objects.exclude(store="").values_list("store", flat=True):
            postgres_store.delete(postgres_store.address(DEVICES, name))


@pytest.fixture
def two(installation: Installation, sim: Wasim, settings: Any) -> Iterator[Two]:
    settings.DEVICE_STORE_URL = DEVICES
    installation.environment |= {**SHORT, "REDIS_URL": REDIS, "DEVICE_STORE_URL": DEVICES}
    two = Two(installation, sim)
    yield two
    two.close()


@pytest.mark.parametrize("cut", [("database",), ("database", "redis", "devices", "whatsapp")], ids=["database", "all"])
def test_cut_off_from_the_database_its_clients_end_before_the_leases_do(two: Two, cut: tuple[str, ...]) -> None:
    two.start_second()
    epochs = [fresh(row).lease_epoch for row in two.rows]
    two.cut(*cut)
    began = time.monotonic()
    wait_for(lambda: not two.first.running(), 20, two.installation.log("host-1"))
    assert time.monotonic() - began < 6.5  # the length of a lease, and a look
    two.connected_on("host-2")
    assert all(fresh(row).lease_epoch > epoch for row, epoch in zip(two.rows, epochs, strict=True))
    two.mend()
    two.start_first()  # as a supervisor does
    wait_for(lambda: live_host("host-1"), 30, two.installation.log("host-1"))
    two.connected_on("host-2")  # a host that comes back takes nothing by force
    two.one_at_a_time()


def test_cut_off_from_redis_nothing_is_lost_but_hints(two: Two) -> None:
    two.cut("redis")
    before = [two.sim.device(n).accepted_logins for n in two.numbers]
    for n in two.numbers:
        two.sim.faults.drop(n)
    wait_for(lambda: all(two.sim.device(n).accepted_logins > b for n, b in zip(two.numbers, before, strict=True)), 30)
    two.connected_on("host-1")
    for row in two.rows:
        wait_for(lambda row=row: list(  # type: ignore[misc]
            SessionEvent.objects.filter(session=row).order_by("id").values_list("kind", flat=True)
        )[-2:] == ["disconnected", "connected"], 30)  # fmt: skip
    assert two.first.running()
    two.one_at_a_time()


def test_cut_off_from_whatsapp_its_sessions_wait_and_come_back(two: Two) -> None:
    two.cut("whatsapp")
    for n in two.numbers:
        two.sim.faults.drop(n)
    wait_for(lambda: all(fresh(row).state == "waiting" for row in two.rows), 60,
             lambda: [(fresh(row).state, fresh(row).reason) for row in two.rows])  # fmt: skip
    assert two.first.running()
    two.mend()
    two.connected_on("host-1", 90)
    two.one_at_a_time()


def test_cut_off_from_the_device_keys_it_comes_back_with_them(two: Two) -> None:
    two.cut("devices")
    for n in two.numbers:
        two.sim.faults.drop(n)
    time.sleep(2)
    two.mend()
    two.connected_on("host-1", 90)
    two.one_at_a_time()
