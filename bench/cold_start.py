"""Everything is started at once with every session disconnected: how soon are all connected, and do pages stay quick?

    python bench/cold_start.py --sessions 500 --hosts 5

The real client library against the simulator in a process of its own; web, dispatcher, cluster and hosts start at the
same moment with the settings of production, each host with room for its share. From then until the last session is
connected a person who is logged in opens the list of accounts, the admin's index and, with a key, the API's accounts,
one after the other. Prints `seconds_to_all`, `web_ready_s` (until the first answer), `web_p50_ms`, `web_p95_ms` and
`web_requests`, `web_errors` (another status than 200, or none; must be 0), `memory_mb_total` (PSS of all our
processes) at the end and `memory_mb_peak`, `memory_mb` of each kind, and `double_live`, the devices that ever had two
sockets at once.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import sys
import threading
import time
from collections import defaultdict
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.callers import Request, percentile, person, program
from bench.stage import PRODUCTION, Stage, arguments, memory_mb
from bench.storm import connected, paired, simulator, until

if TYPE_CHECKING:
    from tests.installation import Installation
    from tests.wasim.remote import WasimClient

#: Seconds between an answer and the next request, and between two samples of memory.
_PAUSE, _SAMPLE = 0.2, 2.0
_PAGES = {"accounts": "/admin/accounts/account/", "index": "/admin/", "api": "/api/v1/accounts"}


class Visitor(threading.Thread):
    """Opens pages in turn, from the first moment the web process answers until told to leave."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__(daemon=True)
        self._browser, self._program = person(address), program(address, key)
        self._leaving = threading.Event()
        self.took: dict[str, list[float]] = defaultdict(list)
        self.ready_at, self.errors = math.inf, 0

    def run(self) -> None:
        """Ask, wait, ask."""
        for name, path in cycle(_PAGES.items()):
            if self._leaving.wait(_PAUSE):
                break
            who = self._program if name == "api" else self._browser
            try:
                status, seconds = who.ask(Request(name, path))
            except (OSError, http.client.HTTPException):
                self.errors += self.ready_at < math.inf  # before that it is not there yet
                continue
            self.ready_at = min(self.ready_at, time.monotonic())
            self.errors += status != 200
            self.took[name].append(seconds)

    def leave(self) -> None:
        """Return once the last answer has come."""
        self._leaving.set()
        self.join(60)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--sessions", type=int, default=500, help="paired accounts")
    options.add_argument("--hosts", type=int, default=5, help="session hosts; each has room for its share, no more")
    chosen = options.parse_args()
    if chosen.sessions < 1 or chosen.hosts < 1:
        options.error("--sessions and --hosts must be at least 1")
    with Stage(chosen) as stage:
        installation = paired(stage, chosen.sessions)
        stage.end_simulator()
        with simulator(stage.folder / "wasim") as (variables, sim):
            capacity = math.ceil(chosen.sessions / chosen.hosts)
            installation.environment |= {**variables, **PRODUCTION, "HOST_CAPACITY": str(capacity)}
            figures = measure(stage, installation, sim, chosen)
        stage.tell(sessions=chosen.sessions, hosts=chosen.hosts, database=stage.database, redis=bool(chosen.redis_url),
                   **figures)  # fmt: skip


def measure(stage: Stage, installation: Installation, sim: WasimClient, chosen: Any) -> dict[str, Any]:
    """Return the figures."""
    from django.core.management import call_command

    from accounts.models import ApiKey, Scope

    call_command("collectstatic", verbosity=0, interactive=False)
    _key, secret = ApiKey.make("bench", list(Scope))
    stage.progress(f"starting everything with {chosen.hosts} hosts")
    began = time.monotonic()
    address = installation.start_web(wait=False)
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    installation.start("cluster", "manage.py", "qcluster", "--skip-checks")
    for n in range(chosen.hosts):
        installation.start_host(f"host-{n + 1}")
    visitor = Visitor(address, secret)
    visitor.start()
    peak, sampled = 0.0, began

    def there() -> bool:
        nonlocal peak, sampled
        if time.monotonic() - sampled >= _SAMPLE:
            sampled = time.monotonic()
            peak = max(peak, sum(memory(installation).values()))
            stage.progress(f"{sampled - began:.0f} s: {connected()} connected")
        return connected() == chosen.sessions

    with contextlib.ExitStack() as stack:
        stack.callback(visitor.leave)
        until(there, pause=0.5)
        seconds = time.monotonic() - began
    now = memory(installation)
    everything = [one for took in visitor.took.values() for one in took]
    return {
        "seconds_to_all": round(seconds, 1), "web_ready_s": round(visitor.ready_at - began, 1),
        "web_p50_ms": percentile(everything, 50), "web_p95_ms": percentile(everything, 95),
        "web_p95_ms_each": {name: percentile(took, 95) for name, took in visitor.took.items()},
        "web_requests": len(everything), "web_errors": visitor.errors,
        "memory_mb_total": round(sum(now.values()), 1), "memory_mb_peak": round(max(peak, sum(now.values())), 1),
        "memory_mb": kinds(now),
        "double_live": sum(device["max_live_sockets"] > 1 for device in sim.devices.values()),
    }  # fmt: skip


def memory(installation: Installation) -> dict[str, float]:
    """Return the memory of each process, in MB."""
    return {name: memory_mb([program.pid]) for name, program in installation.programs.items()}


def kinds(memory: dict[str, float]) -> dict[str, float]:
    """Return the memory of each kind of program: of all hosts together."""
    total: dict[str, float] = defaultdict(float)
    for name, megabytes in memory.items():
        total["hosts" if name.startswith("host-") else name] += megabytes
    return {name: round(megabytes, 1) for name, megabytes in total.items()}


if __name__ == "__main__":
    main()
