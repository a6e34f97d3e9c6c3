"""Every socket is cut at once: how soon is every session back, and with how many log-ins each?

    python bench/storm.py --sessions 100 --hosts 2

The real client library against the simulator in a process of its own; web, cluster and dispatcher run too, with the
settings of production. Prints one JSON line: `recovered` sessions, `seconds_to_all` (from the cut to the last log-in
WhatsApp accepted), `double_live` devices that ever had two sockets at once, `attempts_per_session_max`,
`memory_mb_total` (PSS of all our processes, the simulator not counted) and that of each kind of process.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stage import PRODUCTION, ROOT, Stage, arguments, memory_mb

if TYPE_CHECKING:
    from tests.installation import Installation
    from tests.wasim.remote import WasimClient

#: Seconds a phase may take before the bench gives up.
_PATIENCE = 300.0
_NUMBERS = count(4_915_700_000_001)


@contextmanager
def simulator(folder: Path) -> Iterator[tuple[dict[str, str], WasimClient]]:
    """Run the simulator that lives in `folder` as a process; give the variables that lead to it, and its remote."""
    from tests.wasim.remote import WasimClient

    process = subprocess.Popen([sys.executable, "-m", "tests.wasim", "--folder", str(folder)], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        variables, address = {}, ""
        while not address:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("The simulator did not start.")
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                variables[name] = value
            elif line.startswith("# the phone: "):
                address = line.removeprefix("# the phone: ").strip()
        yield variables, WasimClient(address)
    finally:
        process.terminate()
        process.wait(30)


def paired(stage: Stage, sessions: int) -> Installation:
    """Return an installation with so many paired accounts, the simulator's memory of them in its folder."""
    installation = stage.installation()
    stage.progress(f"pairing {sessions} accounts")
    for _ in range(sessions):
        number = str(next(_NUMBERS))
        installation.paired(f"Account {number}", number)
    return installation


def main() -> None:
    """Pair, connect, cut, wait, tell."""
    parser = arguments("Cut every socket at once and time the recovery.")
    parser.add_argument("--sessions", type=int, default=100, help="paired accounts")
    parser.add_argument("--hosts", type=int, default=2, help="session hosts; the accounts are shared among them")
    chosen = parser.parse_args()
    if chosen.sessions < 1 or chosen.hosts < 1:
        parser.error("--sessions and --hosts must be at least 1")
    with Stage(chosen) as stage:
        installation = paired(stage, chosen.sessions)
        stage.end_simulator()
        with simulator(stage.folder / "wasim") as (variables, sim):
            capacity = max(50, math.ceil(chosen.sessions / chosen.hosts) + 5)
            installation.environment |= {**variables, **PRODUCTION, "HOST_CAPACITY": str(capacity)}
            stage.tell(sessions=chosen.sessions, hosts=chosen.hosts, **storm(stage, installation, sim, chosen))


def storm(stage: Stage, installation: Installation, sim: WasimClient, chosen: Any) -> dict[str, Any]:
    """Return the figures."""
    installation.start_web()
    installation.start("cluster", "manage.py", "qcluster", "--skip-checks")
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    for n in range(chosen.hosts):
        installation.start_host(f"host-{n + 1}")
    stage.progress(f"connecting them on {chosen.hosts} hosts")
    began = time.monotonic()
    until(lambda: connected() == chosen.sessions)
    started = time.monotonic() - began
    time.sleep(3)
    before = {jid: device["logins"] for jid, device in sim.devices.items()}
    stage.progress(f"all connected after {started:.1f} s; cutting every socket")
    cut = time.time()
    sim.call("faults.drop_all")

    def back() -> dict[str, float]:
        return {jid: max(device["login_times"]) for jid, device in sim.devices.items()
                if jid in before and device["live_sockets"] and max(device["login_times"]) > cut}  # fmt: skip

    until(lambda: len(back()) >= chosen.sessions, pause=0.5, strict=False)
    until(lambda: connected() == chosen.sessions, strict=False)
    last, devices = back(), sim.devices
    ours = [device for jid, device in devices.items() if jid in before and device["login_times"]]
    memory = {name: memory_mb([program.pid]) for name, program in installation.programs.items()}
    return {
        "recovered": min(len(last), connected()),
        "seconds_to_all": round(max(last.values(), default=math.inf) - cut, 2),
        "double_live": sum(device["max_live_sockets"] > 1 for device in ours),
        "attempts_per_session_max": max(devices[jid]["logins"] - before[jid] for jid in last) if last else 0,
        "memory_mb_total": round(sum(memory.values()), 1), "memory_mb": memory, "seconds_to_start": round(started, 1),
    }  # fmt: skip


def connected() -> int:
    """Return how many sessions are connected."""
    from sessions_app.models import Session

    return Session.objects.filter(state="connected").count()


def until(what: Callable[[], object], pause: float = 0.1, strict: bool = True) -> None:
    """Wait for something to be true. Ends the bench when it does not happen, or returns all the same."""
    deadline = time.monotonic() + _PATIENCE
    while not what():
        if time.monotonic() > deadline:
            if strict:
                raise SystemExit(f"It did not happen within {_PATIENCE:.0f} s.")
            return
        time.sleep(pause)


if __name__ == "__main__":
    main()
