"""Messages through everything: HTTP, outbox, session host, real library, simulator, and back into the inbox.

Every account writes to the next one, so each text is counted where it arrives: by the receiving real session. `lost`
are messages that say neither failed nor uncertain and whose text never arrived, `duplicated` texts that arrived twice.
`cpu_ms` is the CPU time each program spent per message: it does not depend on what else the machine does. With --kills
the host, the web process, the dispatcher and the cluster are SIGKILLed at random moments and started again, while the
callers repeat what was not answered under the same Idempotency-Key.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.callers import Letter, at_once, elsewhere, percentile, program
from bench.stage import UNLIMITED, Stage, arguments, cpu_seconds

if TYPE_CHECKING:
    from tests.installation import Installation

_FIRST = 6_281_200_100_000


def call(address: str, key: str, letters: list[Letter], callers: int) -> tuple[list[float], int, float, float]:
    """Send everything with so many callers at once; return seconds per request, repeats, when it began and ended."""
    waiting, took, repeats = deque(letters), [], 0

    def one(_number: int) -> None:
        nonlocal repeats
        caller = program(address, key)
        with contextlib.suppress(IndexError):  # all are sent
            while True:
                request = waiting.popleft().request
                for _attempt in range(200):
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        status, seconds = caller.ask(request)
                        if status == request.expected:
                            took.append(seconds)
                            break
                        if status < 500:
                            raise RuntimeError(f"refused with {status}")
                    repeats += 1
                    time.sleep(0.2)
                else:
                    raise RuntimeError("never accepted")
        caller.close()

    began, ended = at_once(callers, one)
    return took, repeats, began, ended


class Killer(threading.Thread):
    """Kills a program now and then, and starts it again."""

    def __init__(self, installation: Installation, port: int, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._installation, self._port, self._kills = installation, port, kills
        self._dice = random.Random(seed)
        self.in_flight = 0
        self.killed: Counter[str] = Counter()

    def run(self) -> None:
        """Kill each in turn at random moments, so that all have their share."""
        names = ["host-1", "web", "dispatcher", "cluster"]
        for n in range(self._kills):
            time.sleep(self._dice.uniform(0.3, 1.5))
            self.kill(names[n % len(names)])

    def kill(self, name: str) -> None:
        """SIGKILL it; count what was in flight when a host went, and start it again."""
        from django.db import connection

        from messaging.models import Message

        end(self._installation, name)
        self.killed[name] += 1
        if name == "host-1":
            self.in_flight += Message.objects.filter(state="sending").count()
            connection.close()
        time.sleep(self._dice.uniform(0.0, 0.5))
        start(self._installation, name, self._port)


def end(installation: Installation, name: str) -> None:
    """SIGKILL a program and its children: a cluster's workers would outlive it, and supervisord kills the group too."""
    program = installation.programs[name]
    children = psutil.Process(program.pid).children(recursive=True) if program.running() else []
    program.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def start(installation: Installation, name: str, port: int) -> None:
    """Start one program."""
    commands = {
        "host-1": ("manage.py", "run_session_host", "--name", "host-1"),
        "dispatcher": ("manage.py", "run_dispatcher"), "cluster": ("manage.py", "qcluster", "--skip-checks"),
        "web": ("-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "waserver.asgi:application"),
    }  # fmt: skip
    installation.start(name, *commands[name])


def settled(deadline: float) -> bool:
    """Wait until no message is on its way and what was sent has arrived, or nothing more arrives; False when late."""
    from messaging.models import Message

    still, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        moving = Message.objects.filter(direction="out", state__in=["queued", "sending"]).count()
        arrived = Message.objects.filter(direction="in").count()
        sent = Message.objects.filter(direction="out", state__in=["sent", "delivered", "read"]).count()
        if moving == 0 and arrived >= sent:
            return True
        if moving + arrived != still:
            still, since = moving + arrived, time.monotonic()
        if moving == 0 and time.monotonic() - since > 30:
            return False
        time.sleep(0.25)
    return False


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--count", type=int, default=1000, help="messages")
    options.add_argument("--accounts", type=int, default=10, help="accounts, each writing to the next")
    options.add_argument("--callers", type=int, default=4, help="requests at once")
    options.add_argument("--kills", type=int, default=0, help="SIGKILLs in turn of host, web, dispatcher and cluster")
    options.add_argument("--seed", type=int, default=1, help="for the moments of the kills")
    options.add_argument("--patience", type=float, default=300, help="seconds to wait for everything to settle")
    chosen = options.parse_args()
    with Stage(chosen, **UNLIMITED, LEASE="10", LEASE_RENEWAL="3") as stage:
        figures = measure(stage, chosen)
        stage.tell(count=chosen.count, accounts=chosen.accounts, database=stage.database,
                   redis=bool(chosen.redis_url), kills=chosen.kills, **figures)  # fmt: skip


def measure(stage: Stage, chosen: Any) -> dict[str, Any]:
    """Run it and return the figures."""
    from accounts.models import ApiKey, Scope
    from tests.installation import answers, free_port, wait_for

    installation = stage.installation()
    stage.progress("pairing the accounts")
    sessions = [installation.paired(f"Account {n}", str(_FIRST + n)) for n in range(chosen.accounts)]
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    for name in ("host-1", "web", "dispatcher", *(["cluster"] if chosen.kills else [])):
        start(installation, name, port)
    wait_for(lambda: answers(f"{address}/api/v1/openapi.json"), 60, installation.log("web"))
    installation.until_all(sessions, "connected", 120)
    _key, secret = ApiKey.make("bench", list(Scope))
    ids = [session.account_id for session in sessions]
    letters = [Letter(ids[n % len(ids)], f"+{_FIRST + (n + 1) % len(ids)}", f"bench {n}") for n in range(chosen.count)]

    pids = {name: program.pid for name, program in installation.programs.items()}
    before = {name: cpu_seconds([pid]) for name, pid in pids.items()}
    stage.progress("sending")
    killer = Killer(installation, port, chosen.kills, chosen.seed)
    with elsewhere(call, address, secret, letters, chosen.callers) as sending:
        killer.start()
        took, repeats, began, ended = sending.result(chosen.patience)
    killer.join(chosen.patience)
    stage.progress("waiting for the rest")
    quiet = settled(time.monotonic() + chosen.patience)
    if chosen.kills:
        end(installation, "cluster")
    spent = {} if chosen.kills else {
        name: round((cpu_seconds([pid]) - before[name]) / chosen.count * 1000, 2) for name, pid in pids.items()
    }  # fmt: skip
    return {
        "cpu_ms": spent, **accepted(took, began, ended), **arrived(began), "callers": chosen.callers,
        "repeats": repeats, "settled": quiet, "in_flight_at_kills": killer.in_flight, "killed": dict(killer.killed),
    }  # fmt: skip


def accepted(took: list[float], began: float, ended: float) -> dict[str, Any]:
    """Return how fast requests were answered."""
    return {"accepted_per_s": round(len(took) / (ended - began), 1),
            "p95_accept_ms": percentile(took, 95)}  # fmt: skip


def arrived(began: float) -> dict[str, Any]:
    """Return what became of the messages, counted at the receivers."""
    from messaging.models import Message

    out = {row.text: row for row in Message.objects.filter(direction="out")}
    there: dict[str, float] = {}
    seen: Counter[str] = Counter()
    for text, at in Message.objects.filter(direction="in").values_list("text", "created_at"):
        seen[text] += 1
        there.setdefault(text, at.timestamp())
    unsure = {"failed", "uncertain", "cancelled"}
    lost = [text for text, row in out.items() if row.state not in unsure and not seen[text]]
    delays = [at - out[text].created_at.timestamp() for text, at in there.items() if text in out]
    sent = [row.sent_at.timestamp() for row in out.values() if row.sent_at is not None]
    return {
        "sent_per_s": round(len(sent) / (max(sent) - began), 1) if sent else 0,
        "p95_end_to_end_ms": percentile(delays, 95),
        "lost": len(lost), "duplicated": sum(n - 1 for n in seen.values()),
        "states": dict(Counter(row.state for row in out.values())), "stored": len(out),
    }  # fmt: skip


if __name__ == "__main__":
    main()
