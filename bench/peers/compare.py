"""waserver and Baileys side by side on one simulator, in one run: memory, idle CPU, reconnecting all, messages."""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.peers.baileys import Baileys, MissingNode, install, wait_for
from bench.stage import Stage, arguments, cpu_seconds, memory_mb
from tests.wasim.device import Device

_FIRST = 6_281_200_000_000
_HOST_CAPACITY = 100


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--sessions", type=int, default=300, help="sessions on each side")
    options.add_argument("--idle", type=float, default=60, help="seconds over which idle CPU is measured")
    options.add_argument("--rounds", type=int, default=3, help="how often all sockets are cut; the median counts")
    chosen = options.parse_args()
    try:
        install()
    except MissingNode as error:
        sys.exit(str(error))
    with Stage(chosen, RETRY_TIME_SCALE="1") as stage:
        ours = waserver(stage, chosen)
        theirs = baileys(stage, chosen)
        names = ("memory_mb", "idle_cpu", "reconnect_s")
        ratios = {name: round(ours[name] / theirs[name], 3) for name in names if theirs[name]}
        ratios["hosts_memory_mb"] = round(ours["hosts_memory_mb"] / theirs["memory_mb"], 3)
        stage.tell(sessions=chosen.sessions, waserver=ours, baileys=theirs, ratios=ratios)


def waserver(stage: Stage, chosen: Any) -> dict[str, float]:
    """Return the figures of the whole product: web, cluster, dispatcher and hosts of 100 sessions each."""
    hosts = [f"host-{n + 1}" for n in range(-(-chosen.sessions // _HOST_CAPACITY))]
    installation = stage.installation(RETRY_TIME_SCALE="1", RECONNECT_GRACE="8", HOST_CAPACITY=str(_HOST_CAPACITY))
    numbers = [str(_FIRST + n) for n in range(chosen.sessions)]
    stage.progress(f"pairing {len(numbers)} accounts")
    sessions = [installation.paired(f"Account {number}", number) for number in numbers]
    installation.start_web()
    installation.start("cluster", "manage.py", "qcluster", "--skip-checks")
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    for name in hosts:
        installation.start_host(name)
    stage.progress("connecting them")
    installation.until_all(sessions, "connected", 300)
    pids = [program.pid for program in installation.programs.values()]
    host_pids = [installation.programs[name].pid for name in hosts]
    figures = _measure(stage, chosen, numbers, pids)
    figures["hosts_memory_mb"] = memory_mb(host_pids)
    for program in installation.programs.values():
        program.stop(30)
    return figures


def baileys(stage: Stage, chosen: Any) -> dict[str, float]:
    """Return the figures of one Node process with as many sessions."""
    sim = stage.installation().sim
    assert sim is not None
    numbers = [str(_FIRST + 10_000 + n) for n in range(chosen.sessions)]
    stage.progress("connecting Baileys")
    with Baileys(sim, stage.folder / "baileys") as fleet:
        fleet.start(numbers, 600)
        return _measure(stage, chosen, numbers, [fleet.process.pid])


def _measure(stage: Stage, chosen: Any, numbers: list[str], pids: list[int]) -> dict[str, float]:
    sim = stage.installation().sim
    assert sim is not None
    time.sleep(10)  # what follows a log-in has to settle
    stage.progress(f"idle for {chosen.idle:.0f} s")
    began, used = time.monotonic(), cpu_seconds(pids)
    time.sleep(chosen.idle)
    idle = (cpu_seconds(pids) - used) / (time.monotonic() - began)
    devices = [sim.device(number) for number in numbers]
    took = []
    for _ in range(chosen.rounds):
        logins = [device.accepted_logins for device in devices]
        stage.progress("cutting every socket")
        began = time.monotonic()
        sim.faults.drop("")
        wait_for(partial(_back, devices, logins), 300)
        took.append(time.monotonic() - began)
        time.sleep(65)  # a stable connection: the next cut counts as the first
    return {"memory_mb": memory_mb(pids), "idle_cpu": round(idle, 3), "reconnect_s": round(statistics.median(took), 2),
            "most_live": max(sim.most_live(number) for number in numbers)}  # fmt: skip


def _back(devices: list[Device], logins: list[int]) -> bool:
    return all(d.live_sockets and d.accepted_logins > before for d, before in zip(devices, logins, strict=True))


if __name__ == "__main__":
    main()
