"""`make chaos SEED=... MINUTES=...`: random faults over an installation of real processes, then a verdict.

The schedule depends on the seed alone, so a run that found something can be repeated. 30 accounts on 3 hosts; the
simulator causes the faults of WASIM.md, and hosts, cluster and web are killed and paused; dead processes are started
again after a second, as supervisord does. At the end everything is mended, and then:

- every account that may be connected is, with one socket;
- no device ever had two sockets at once (but the frozen one of a paused host, which nobody can close);
- no log-in came earlier than the retry policy allowed, and none without a client we had started;
- no observation was lost on its way to a row, killed hosts included.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import OperationalError

from bench.stage import Stage, arguments
from tests.chaos_verdict import Pause, verdict

if TYPE_CHECKING:
    from sessions_app.models import Session
    from tests.installation import Installation
    from tests.wasim import Wasim

SESSIONS, HOSTS = 30, 3
#: Seconds between two faults, on average.
PACE = 1.0
#: The retry policy's clock, and leases and watchdogs short enough for a run of minutes.
SCALE = 0.1
SETTINGS = {
    "RETRY_TIME_SCALE": str(SCALE), "RECONNECT_GRACE": "3", "LEASE": "6", "LEASE_RENEWAL": "1.5",
    "CONNECT_TIMEOUT": "10", "KEEPALIVE_CHECK": "6", "PROBE_TIMEOUT": "4", "LOG_LEVEL": "INFO",
}  # fmt: skip
#: Seconds all has to be well in after the last fault: the circuit breaker's pause and a last attempt.
PATIENCE = 150.0


@dataclass(frozen=True)
class Step:
    """At `at` seconds from the beginning: do `what` to `target` (a position), or take it back."""

    at: float
    what: str
    target: int = 0
    undo: bool = False


#: What -> weight, shortest and longest duration in seconds (0: over at once).
FAULTS: dict[str, tuple[int, float, float]] = {
    "drop": (10, 0, 0), "drop_all": (2, 0, 0), "error_503": (3, 0, 0), "error_599": (3, 0, 0), "error_515": (3, 0, 0),
    "replaced": (3, 0, 0), "refuse_408": (3, 2, 12), "refuse_409": (2, 2, 12), "refuse_500": (2, 2, 12),
    "refuse_503": (3, 2, 12), "banned": (2, 2, 6), "outdated": (1, 2, 6), "silence": (4, 5, 15), "delay": (1, 2, 6),
    "net_refused": (1, 2, 8), "net_blackhole": (1, 2, 8), "net_mute": (1, 2, 8), "unlink": (1, 0, 0),
    "kill_host": (4, 0, 0), "pause_host": (3, 1, 12), "restart_host": (1, 0, 0), "drain_host": (1, 3, 10),
    "kill_cluster": (1, 0, 0), "pause_cluster": (1, 2, 8), "kill_web": (1, 0, 0), "pause_web": (1, 2, 8),
    "restart_session": (2, 0, 0), "stop_session": (2, 2, 8),
}  # fmt: skip


def schedule(seed: int, seconds: float) -> list[Step]:
    """Return what happens when: the same for the same seed and length."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    steps, at = [], 0.0
    names, weights = list(FAULTS), [weight for weight, _, _ in FAULTS.values()]
    while (at := at + draw.expovariate(1 / PACE)) < seconds:
        what = draw.choices(names, weights)[0]
        target = draw.randrange(HOSTS if what.endswith("_host") else SESSIONS)
        steps.append(Step(round(at, 3), what, target))
        _, least, most = FAULTS[what]
        if most:
            steps.append(Step(round(min(seconds, at + draw.uniform(least, most)), 3), what, target, undo=True))
    return sorted(steps, key=lambda step: step.at)


def _is_signal(step: Step) -> bool:
    return step.what.startswith(("kill_", "pause_"))


class Chaos:
    """One run."""

    def __init__(self, installation: Installation, sim: Wasim) -> None:
        self._installation, self._sim = installation, sim
        self._over = threading.Event()
        self.pauses: list[Pause] = []
        self.sessions: list[Session] = []
        self.numbers = [str(4_915_800_000_000 + n) for n in range(SESSIONS)]
        self._web_port = 0

    # -- the processes

    def begin(self) -> None:
        """Pair, start everything, wait until all are connected."""
        from tests.installation import free_port

        self._web_port = free_port()
        self.sessions = [self._installation.paired(f"Account {n}", n) for n in self.numbers]
        for name in (*(f"host-{n + 1}" for n in range(HOSTS)), "cluster", "web"):
            self._start(name)
        self._installation.until_all(self.sessions, "connected", 90)
        threading.Thread(target=self._supervise, daemon=True).start()

    def _start(self, name: str) -> None:
        audit = str(self._installation.folder / "audit")
        commands = {
            "cluster": ("manage.py", "qcluster"),
            "web": ("-m", "daphne", "-b", "127.0.0.1", "-p", str(self._web_port), "waserver.asgi:application"),
        }
        host = ("-m", "tests.audited_host", f"{audit}-{name}", "--name", name)
        self._installation.start(name, *commands.get(name, host))

    def _supervise(self) -> None:
        while not self._over.wait(1):
            for name, program in list(self._installation.programs.items()):
                if not program.running():
                    self._start(name)

    def end(self) -> None:
        """SIGTERM to all, so that what is queued is written."""
        self._over.set()
        time.sleep(1.5)  # a start that was under way
        for program in self._installation.programs.values():
            program.send(signal.SIGCONT)
            program.send(signal.SIGTERM)
        for program in self._installation.programs.values():
            program.stop(20)

    # -- the faults

    def run(self, steps: list[Step]) -> None:
        """Do each step at its time. One that finds nothing to do any more (an unlinked device) does nothing."""
        began = time.monotonic()
        # A process paused in the middle of a write keeps SQLite's lock until it wakes up. What asks the database has
        # to wait for that, so it may not be what wakes it.
        signals = [step for step in steps if _is_signal(step)]
        with ThreadPoolExecutor(1) as beside:
            signalled = beside.submit(self._walk, signals, began)
            self._walk([step for step in steps if not _is_signal(step)], began)
            signalled.result()

    def _walk(self, steps: list[Step], began: float) -> None:
        for step in steps:
            time.sleep(max(0.0, began + step.at - time.monotonic()))
            with contextlib.suppress(LookupError, ProcessLookupError):
                self._do_at_last(step)

    def _do_at_last(self, step: Step) -> None:
        """Ask again, as a person would, when processes paused one after the other held the database's lock."""
        for _ in range(3):
            try:
                return self._do(step)
            except OperationalError as error:
                refusal = error
        raise refusal

    def _do(self, step: Step) -> None:
        from sessions_app.models import Host, Session

        sim, number, on = self._sim.faults, self.numbers[step.target], not step.undo
        kind, _, rest = step.what.partition("_")
        if _is_signal(step):
            self._signal(f"host-{step.target + 1}" if rest == "host" else rest, kind, on)
        elif step.what == "restart_host":
            Host.objects.get(name=f"host-{step.target + 1}").request_restart("chaos", "as scheduled")
        elif step.what == "drain_host":
            host = Host.objects.get(name=f"host-{step.target + 1}")
            (host.drain if on else host.undrain)("chaos", "as scheduled")
        elif step.what in ("restart_session", "stop_session"):
            row = Session.objects.select_related("account").get(pk=self.sessions[step.target].pk)
            if row.store:
                ask = row.request_restart if kind == "restart" else row.request_stop if on else row.request_start
                ask("chaos")
        elif kind == "refuse":
            sim.refuse(number, int(rest) if on else None)
        elif kind == "error":
            sim.stream_error(number, rest)
        else:
            others: dict[str, Callable[[], object]] = {
                "drop": lambda: sim.drop(number), "drop_all": sim.drop_all, "unlink": lambda: sim.remove_device(number),
                "replaced": lambda: sim.stream_error(number, conflict="replaced"),
                "banned": lambda: self._turn_away(number, 402 if on else None),
                "outdated": lambda: self._turn_away(number, 405 if on else None),
                "silence": lambda: sim.silence(number, on), "delay": lambda: sim.delay(0.3 if on else 0),
                "net_refused": lambda: sim.break_network("refused" if on else ""),
                "net_blackhole": lambda: sim.break_network("blackhole" if on else ""),
                "net_mute": lambda: sim.break_network("mute" if on else ""),
            }  # fmt: skip
            others[step.what]()

    def _turn_away(self, number: str, code: int | None) -> None:
        self._sim.faults.refuse(number, code, expire=3)
        self._sim.faults.drop(number)

    def _signal(self, name: str, kind: str, on: bool) -> None:
        program = self._installation.programs[name]
        if kind == "kill":
            program.kill()
        elif on:
            program.send(signal.SIGSTOP)
            self.pauses.append(Pause(name, time.time()))
        else:
            program.send(signal.SIGCONT)
            for pause in self.pauses:
                if pause.host == name and pause.until is None:
                    pause.until = time.time()

    # -- the end

    def mend(self) -> None:
        """Take every fault back, and do what only a person may do: start what waits for one."""
        from sessions_app.models import Host, Session

        self._sim.faults.clear()
        for name, program in self._installation.programs.items():
            with contextlib.suppress(ProcessLookupError):
                program.send(signal.SIGCONT)
            for pause in self.pauses:
                if pause.host == name and pause.until is None:
                    pause.until = time.time()
        for host in Host.objects.filter(draining=True):
            host.undrain("chaos", "the end")
        time.sleep(3)
        for row in Session.objects.select_related("account").exclude(store=""):
            if row.hold or row.state == "outdated" or row.account.desired != "online":
                row.request_start("chaos")

    def well(self) -> bool:
        """Return whether all that may be connected is, by the rows and on the wire."""
        return not list(self.ill())

    def ill(self) -> Iterator[str]:
        """Say what is not."""
        from sessions_app.models import Session

        for row in Session.objects.select_related("account"):
            live = sum(device.live_sockets for device in self._sim.server.of(row.account.phone or ""))
            if row.store and (row.state != "connected" or live != 1):
                yield (f"{row} is {row.state} ({row.reason}, {row.code}) with {live} sockets, host {row.host_id}, due "
                       f"{row.due_at}, retry {row.retry_at}, hold {row.hold!r}")  # fmt: skip
            elif not row.store and (row.state != "logged_out" or live):
                yield f"{row} has no keys but is {row.state} with {live} sockets"


def main() -> None:
    """Run, judge, tell. Exit code 1 when something is wrong; the log then says what and the seed to repeat it."""
    parser = arguments("Random faults over 30 accounts on 3 hosts, then a verdict.")
    parser.add_argument("--seed", type=int, default=1, help="decides everything that happens")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults happen")
    parser.add_argument("--plan", action="store_true", help="print the schedule and end")
    chosen = parser.parse_args()
    steps = schedule(chosen.seed, chosen.minutes * 60)
    if chosen.plan:
        for step in steps:
            print(f"{step.at:8.3f}  {step.what}{' ends' if step.undo else ''}  {step.target}")
        return
    with Stage(chosen, RETRY_TIME_SCALE=str(SCALE)) as stage:
        sys.exit(not _run(stage, steps, chosen))


def _run(stage: Stage, steps: list[Step], chosen: argparse.Namespace) -> bool:
    installation = stage.installation(**SETTINGS)
    assert installation.sim is not None
    chaos = Chaos(installation, installation.sim)
    began = time.monotonic()
    chaos.begin()
    stage.progress(f"{SESSIONS} sessions on {HOSTS} hosts connected; {len(steps)} steps, seed {chosen.seed}")
    chaos.run(steps)
    chaos.mend()
    stage.progress("everything mended; waiting until all are well")
    until = time.monotonic() + PATIENCE
    while not chaos.well() and time.monotonic() < until:
        time.sleep(0.5)
    problems = list(chaos.ill())
    healed = round(PATIENCE - (until - time.monotonic()), 1)
    chaos.end()
    figures, wrong = verdict(installation, chaos.pauses)
    problems += wrong
    for problem in problems:
        stage.progress(problem)
    stage.tell(seed=chosen.seed, minutes=chosen.minutes, faults=dict(Counter(s.what for s in steps if not s.undo)),
               problems=len(problems), seconds_to_heal=healed, seconds=round(time.monotonic() - began),
               **figures)  # fmt: skip
    if problems:
        stage.progress(f"repeat it with: make chaos SEED={chosen.seed} MINUTES={chosen.minutes}")
    return not problems


if __name__ == "__main__":
    main()
