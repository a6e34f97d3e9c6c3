"""waserver and Baileys side by side on one simulator, in one run: memory, idle CPU, reconnecting all, messages.

Memory is the mean over the time from when all were connected to the last reconnect, sampled every 5 s: at rest, then
`--rounds` times cut off and back. Node.js holds up to ten times as much before it collects as after, and collects when
it likes, so the median (`memory_median_mb`) may be either; the most and the least are `memory_peak_mb` and
`memory_least_mb`. CPU is a share of one core: right after all are connected (`idle_cpu`), once they have rested
(`idle_cpu_later`), and in the minute after all are back (`settling_cpu`). Baileys sends the keepalives of all its
sessions at once every 30 s, so the windows are whole minutes. Messages per second are those WhatsApp acknowledged, ten
accounts writing at once. Ours go through the HTTP API and are on disk before they are accepted; Baileys gets them all
at once into its process, which keeps none.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.callers import Letter, elsewhere
from bench.messages import call
from bench.peers.baileys import Baileys, MissingNode, NodeEnded, install, wait_for
from bench.stage import PRODUCTION, UNLIMITED, Stage, arguments, cpu_seconds, memory_mb
from tests.wasim.device import Device

if TYPE_CHECKING:
    from tests.installation import Installation

_FIRST = 6_281_200_000_000
#: Accounts that write at once, and how far from theirs the numbers are that they write to.
_WRITERS, _AWAY = 10, 500_000
#: Seconds until all are back, or all is sent, at the latest.
_PATIENCE = 600
#: Seconds for what follows a log-in, and between two looks at the memory.
_SETTLING, _LOOK = 10, 5
#: Seconds in which Baileys sends the keepalives of all sessions twice.
_MINUTE = 60


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--sessions", type=int, default=300, help="sessions on each side")
    options.add_argument("--hosts", type=int, default=3, help="session hosts of ours; Baileys is one process")
    options.add_argument("--idle", type=int, default=1, help="minutes over which idle CPU is measured, right after all "
                         "are connected and again when four times that have passed")
    options.add_argument("--rounds", type=int, default=3, help="how often all sockets are cut; the median counts")
    options.add_argument("--messages", type=int, default=500, help="to send on each side")
    chosen = options.parse_args()
    try:
        install()
    except MissingNode as error:
        sys.exit(str(error))
    with Stage(chosen, **UNLIMITED) as stage:
        ours = waserver(stage, chosen)
        theirs = baileys(stage, chosen)
        names = ("memory_mb", "memory_median_mb", "memory_peak_mb", "memory_least_mb", "idle_cpu", "idle_cpu_later",
                 "settling_cpu", "reconnect_s", "messages_per_s")  # fmt: skip
        ratios = {name: round(ours[name] / theirs[name], 3) for name in names if theirs.get(name)}
        ratios["hosts_memory_mb"] = round(ours["hosts_memory_mb"] / theirs["memory_mb"], 3)
        stage.tell(sessions=chosen.sessions, hosts=chosen.hosts, waserver=ours, baileys=theirs, ratios=ratios)


def waserver(stage: Stage, chosen: Any) -> dict[str, float]:
    """Return the figures of the whole product: web, cluster, dispatcher and hosts that share the sessions."""
    hosts = [f"host-{n + 1}" for n in range(chosen.hosts)]
    installation = stage.installation(**PRODUCTION, HOST_CAPACITY=str(-(-chosen.sessions // chosen.hosts)))
    numbers = [str(_FIRST + n) for n in range(chosen.sessions)]
    stage.progress(f"pairing {len(numbers)} accounts")
    sessions = [installation.paired(f"Account {number}", number) for number in numbers]
    address = installation.start_web()
    installation.start("cluster", "manage.py", "qcluster", "--skip-checks")
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    for name in hosts:
        installation.start_host(name)
    stage.progress("connecting them")
    installation.until_all(sessions, "connected", 300)
    pids = [program.pid for program in installation.programs.values()]
    host_pids = [installation.programs[name].pid for name in hosts]
    with Memory(host_pids) as hosts_memory:
        figures = _measure(stage, chosen, numbers, pids)
    figures["hosts_memory_mb"] = hosts_memory.mean
    figures["messages_per_s"] = _sent(stage, installation, address, numbers[:_WRITERS], chosen.messages)
    for program in installation.programs.values():
        program.stop(30)
    return figures


def baileys(stage: Stage, chosen: Any) -> dict[str, Any]:
    """Return the figures of one Node process with as many sessions; `ended` is why it did not live to the end of it."""
    sim = stage.installation().sim
    assert sim is not None
    numbers = [str(_FIRST + 10_000 + n) for n in range(chosen.sessions)]
    stage.progress("connecting Baileys")
    with Baileys(sim, stage.folder / "baileys") as fleet:
        fleet.start(numbers, 600)
        figures: dict[str, Any] = {**_measure(stage, chosen, numbers, [fleet.process.pid])}
        stage.progress("sending")
        try:
            figures["messages_per_s"] = round(fleet.send(numbers[:_WRITERS], chosen.messages // _WRITERS, _AWAY), 1)
        except NodeEnded as error:
            figures["ended"] = str(error)
            return figures
        if fleet.counts["unsent"]:
            raise RuntimeError(f"Baileys did not send {fleet.counts['unsent']} messages")
        return figures


def _sent(stage: Stage, installation: Installation, address: str, numbers: list[str], count: int) -> float:
    """Send through the API; return messages per second, from the first request to the last acknowledgement."""
    from accounts.models import Account, ApiKey, Scope
    from messaging.models import Message

    stage.progress("sending")
    ids = dict(Account.objects.filter(phone__in=numbers).values_list("phone", "pk"))
    letters = [Letter(ids[number], f"+{int(number) + _AWAY}", f"bench {number} {n}")
               for n in range(count // len(numbers)) for number in numbers]  # fmt: skip
    _key, secret = ApiKey.make("bench", list(Scope))
    with elsewhere(call, address, secret, letters, 4) as sending:
        _took, _repeats, began, _ended = sending.result(_PATIENCE)
    sent = Message.objects.filter(direction="out", sent_at__isnull=False)
    wait_for(lambda: sent.count() == len(letters), _PATIENCE)
    return round(len(letters) / (time.time() - began), 1)


class Memory:
    """What some processes hold, looked at again and again as long as the context lasts; in MB."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mean(self) -> float:
        """Return the mean of what was seen."""
        return round(statistics.fmean(self._seen), 1)

    @property
    def median(self) -> float:
        """Return the median of what was seen."""
        return round(statistics.median(self._seen), 1)

    @property
    def peak(self) -> float:
        """Return the most that was seen."""
        return max(self._seen)

    @property
    def least(self) -> float:
        """Return the least that was seen."""
        return min(self._seen)

    def _look(self) -> None:
        while True:
            self._seen.append(memory_mb(self._pids))
            if self._over.wait(_LOOK):
                return


def _measure(stage: Stage, chosen: Any, numbers: list[str], pids: list[int]) -> dict[str, float]:
    sim = stage.installation().sim
    assert sim is not None
    with Memory(pids) as memory:
        time.sleep(_SETTLING)
        idle = chosen.idle * _MINUTE
        stage.progress(f"idle for {4 * idle} s")
        first = _cpu(pids, idle)
        time.sleep(2 * idle)
        later = _cpu(pids, idle)
        devices = [sim.device(number) for number in numbers]
        took, settling = [], []
        for _ in range(chosen.rounds):
            logins = [device.accepted_logins for device in devices]
            stage.progress("cutting every socket")
            began = time.monotonic()
            sim.faults.drop("")
            wait_for(partial(_back, devices, logins), _PATIENCE)
            took.append(time.monotonic() - began)
            settling.append(_cpu(pids, _MINUTE))
            time.sleep(_LOOK)  # with that minute a stable connection: the next cut counts as the first
    return {"memory_mb": memory.mean, "memory_median_mb": memory.median, "memory_peak_mb": memory.peak,
            "memory_least_mb": memory.least, "idle_cpu": round(first, 4), "idle_cpu_later": round(later, 4),
            "settling_cpu": round(statistics.median(settling), 4), "reconnect_s": round(statistics.median(took), 2),
            "most_live": max(sim.most_live(number) for number in numbers)}  # fmt: skip


def _cpu(pids: list[int], seconds: float) -> float:
    began, used = time.monotonic(), cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - used) / (time.monotonic() - began)


def _back(devices: list[Device], logins: list[int]) -> bool:
    return all(d.live_sockets and d.accepted_logins > before for d, before in zip(devices, logins, strict=True))


if __name__ == "__main__":
    main()
