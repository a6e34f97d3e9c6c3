"""docs/operations.md: every command on it is run, in its order, on a real server with a connected account."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import ROOT, free_port, template_store
from tests.test_restore import KEY
from tests.wasim import Wasim
from tests.wasim.clone import clone_device

PAGE = (ROOT / "docs" / "operations.md").read_text()
#: What may find troubles, and says so with 1.
MAY_FIND = ("maintenance", "server health")
PHONE = "4915400000001"
IMPORT = "from sessions_app.models import Session"


def commands(page: str) -> Iterator[list[str]]:
    """Give the commands of the page's console blocks."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for line in block.splitlines():
            assert line.startswith("$ manage.py "), line
            yield shlex.split(line.removeprefix("$ manage.py "))


def test_the_pages_come_in_the_order_people_need_them() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.M) == ["Daily", "Weekly", "Monthly", "Troubleshooting", "Emergency"]
    assert len(re.findall(r"^```(?!console)\w", PAGE, re.M)) == 0  # no block the other test would not see


@pytest.mark.real
@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(sim: Wasim, tmp_path: Path) -> None:
    var = tmp_path / "var"
    left_out = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DEVICE_STORE_URL")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in left_out}, **sim.environment(),
        "VAR_DIR": str(var), "PORT": str(free_port()), "BACKUP_URL": str(tmp_path / "backups"), "BACKUP_KEY": KEY,
        "HOSTS": "2", "RETRY_TIME_SCALE": "0.1", "ADMIN_PASSWORD": "for tests only",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody out there is asked
    }  # fmt: skip

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=False)  # fmt: skip

    def must(*command: str) -> str:
        done = run(*command)
        found = " ".join(command).startswith(MAY_FIND)
        said = f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0 or (found and done.returncode == 1), said
        assert "Traceback" not in done.stdout + done.stderr, said
        return done.stdout

    try:
        must("migrate", "-v0")
        must("accounts", "add", "Front office", "--phone", f"+{PHONE}")
        store = f"{uuid.uuid4().hex}.sqlite3"
        clone_device(sim, template_store(sim), var / "devices" / store, PHONE)
        must("shell", "-c", f"{IMPORT}; Session.objects.update(store={store!r}, state='stopped')")
        must("server", "start")
        must("sessions", "start", "Front office", "--wait", "60")
        export = ROOT / "front-office.account.age"
        printed = {}
        try:
            for command in commands(PAGE):
                printed[" ".join(command)] = must(*command)
        finally:
            export.unlink(missing_ok=True)
        assert "Sessions: 1 connected" in printed["maintenance daily"]
        assert "is sound: 1 accounts, 1 device stores" in printed["backup verify"]
        assert "would be restored" in printed["backup restore --dry-run --force"]
        assert "host-1 was restarted" in printed["server restart --rolling"]
        must("sessions", "start", "Front office", "--wait", "60")  # after the restore, with the keys of the backup
        assert sim.most_live(PHONE) == 1
    finally:
        run("server", "stop")
