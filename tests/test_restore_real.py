"""The whole emergency of lost disks, on the real library: everything gone, and nobody has to scan."""

from __future__ import annotations

import json
import shutil
from itertools import count

import pytest

from tests.database import Database
from tests.installation import Installation, Program, wait_for
from tests.test_restore import KEY, Place
from tests.wasim import Wasim

pytestmark = pytest.mark.real

_numbers = count(4_915_300_000_001)


def test_backed_up_while_connected_deleted_and_restored_all_connect_without_a_scan(
    installation: Installation, sim: Wasim, another_database: Database
) -> None:
    numbers = [str(next(_numbers)) for _ in range(3)]
    for n in numbers:
        installation.paired(f"Account {n}", n)
    backups, var = installation.folder / "backups", installation.folder / "second"
    place = Place(var, backups)
    installation.environment |= {"BACKUP_KEY": KEY, "BACKUP_URL": str(backups)}
    made = installation.manage("backup", "create", "--json")
    assert json.loads(made.stdout)["stores"] == 3, made.stderr

    # A machine that has never seen them.
    installation.environment |= {"VAR_DIR": str(var), "DATABASE_URL": another_database.url}
    installation.environment.pop("SECRET_KEY")
    place.environment = installation.environment
    place.manage("backup", "restore", "--yes")
    first = host(installation, place, numbers, sim, logins=1)

    # And again: backed up while connected, everything deleted, restored.
    place.manage("backup", "create", "--reason", "connected")
    first.stop()
    shutil.rmtree(var)
    another_database.empty()
    place.manage("backup", "restore", "--yes")
    second = host(installation, place, numbers, sim, logins=2)
    assert "waserver is running" in place.run("backup", "restore", "--yes").stderr
    second.stop()
    assert [sim.most_live(n) for n in numbers] == [1, 1, 1]


def host(installation: Installation, place: Place, numbers: list[str], sim: Wasim, logins: int) -> Program:
    """Start a host; return it when all are connected, each after one log-in more."""
    program = installation.start_host()

    def connected() -> bool:
        rows = json.loads(place.manage("sessions", "list", "--json"))
        return [row["state"] for row in rows] == ["connected"] * len(numbers)

    wait_for(lambda: all(sim.device(n).live_sockets == 1 for n in numbers), 60, installation.log("host-1"))
    wait_for(connected, 30, installation.log("host-1"))
    assert [sim.device(n).accepted_logins for n in numbers] == [logins] * len(numbers)
    return program
