"""Does memory grow? An hour of messages, dropped sockets and admin pages, and the memory of every process.

    python bench/memory.py --sessions 20 --minutes 75 --warm-up 15 --rate 8

Web, dispatcher, cluster and one session host with the settings of production, pacing included; two accounts each write
to one another through the HTTP API, a socket is cut every minute and a page of the admin fetched every ten seconds,
more often until all is warm; the simulator is a process of its own. Memory is what a program and its children have
written, every ten seconds, pages they share counted once; what counts is the median of each minute.
The warm-up must be long enough for what the library fills once: the last 256 messages of each session, kept for
receivers that could not read one (sessions * 256 / rate seconds), and the room it takes to log in again: with 300
sockets of 40 sessions cut and nothing else going on a host grew by 5 MB with the first 50, by 0.4 MB with the last 100.
`slope_percent_per_hour` is the Theil-Sen slope of these medians after the warm-up (the median of the slopes between
all pairs: a short peak does not move it), as a share of the memory in the first minute after the warm-up.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations, count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.callers import Letter, Request, person, program
from bench.messages import arrived, settled
from bench.stage import PRODUCTION, Stage, arguments, private_mb
from bench.storm import paired, simulator

if TYPE_CHECKING:
    from tests.installation import Installation
    from tests.wasim.remote import WasimClient

#: Seconds between two samples, two pages, two cut sockets.
_SAMPLE, _PAGE, _CUT = 10.0, 10.0, 60.0
#: ... and more pages and cut sockets while it warms up: the web process takes about 250 pages, the library 6 cuts of
#: each session, until all that they keep is in memory.
_WARM_PAGE, _WARM_CUT = 2.0, 6.0
_PAGES = ("/admin/", "/admin/accounts/account/", "/admin/messaging/message/")
_TOTAL = "total"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--sessions", type=int, default=20, help="paired accounts, an even number")
    options.add_argument("--minutes", type=float, default=75, help="of traffic")
    options.add_argument("--warm-up", type=float, default=15, help="minutes of it that do not count")
    options.add_argument("--rate", type=float, default=8, help="messages per second, of all accounts together")
    options.add_argument("--seed", type=int, default=1, help="for whose socket is cut")
    chosen = options.parse_args()
    if chosen.sessions < 2 or chosen.sessions % 2 or chosen.minutes - chosen.warm_up < 2:
        options.error("an even number of sessions, and at least 2 minutes after the warm-up")
    with Stage(chosen) as stage:
        installation = paired(stage, chosen.sessions)
        stage.end_simulator()
        with simulator(stage.folder / "wasim") as (variables, sim):
            installation.environment |= {**variables, **PRODUCTION}
            figures = measure(stage, installation, sim, chosen)
        stage.tell(sessions=chosen.sessions, minutes=chosen.minutes, warm_up=chosen.warm_up, rate=chosen.rate,
                   database=stage.database, redis=bool(chosen.redis_url), **figures)  # fmt: skip


def measure(stage: Stage, installation: Installation, sim: WasimClient, chosen: Any) -> dict[str, Any]:
    """Return the figures."""
    from django.core.management import call_command

    from accounts.models import ApiKey, Scope
    from sessions_app.models import Session

    call_command("collectstatic", verbosity=0, interactive=False)
    address = installation.start_web()
    installation.start("dispatcher", "manage.py", "run_dispatcher")
    installation.start("cluster", "manage.py", "qcluster", "--skip-checks")
    installation.start_host()
    sessions = list(Session.objects.select_related("account").order_by("pk"))
    installation.until_all(sessions, "connected", 120)
    _key, secret = ApiKey.make("bench", list(Scope))
    stage.progress(f"{len(sessions)} sessions connected")

    began = time.time()
    samples = traffic(stage, installation, sim, chosen, address, secret)
    stage.progress("waiting for the rest")
    quiet = settled(time.monotonic() + 120)
    minutes = {name: medians(values, chosen.warm_up) for name, values in samples.items()}
    outcome = arrived(began)
    return {
        "slope_percent_per_hour": {name: round(slope(values) * 60 / values[0] * 100, 2)
                                   for name, values in minutes.items()},
        "slope_by": "Theil-Sen over the medians of minutes",
        "memory_mb_start": {name: values[0] for name, values in minutes.items()},
        "memory_mb_end": {name: values[-1] for name, values in minutes.items()},
        "memory_mb_per_session": round(minutes["host-1"][-1] / chosen.sessions, 2),
        **{name: outcome[name] for name in ("stored", "states", "lost", "duplicated")}, "settled": quiet,
    }  # fmt: skip


def traffic(stage: Stage, installation: Installation, sim: WasimClient, chosen: Any, address: str,
            secret: str) -> dict[str, list[tuple[float, float]]]:  # fmt: skip
    """Keep everything busy; return for each program, and for all, (minute, MB) of every sample."""
    from accounts.models import Account

    accounts = list(Account.objects.order_by("pk").values_list("pk", "phone"))
    letters = (Letter(accounts[n % len(accounts)][0], f"+{accounts[n % len(accounts) ^ 1][1]}", f"bench {n}")
               for n in count())  # fmt: skip
    pages = (Request("page", _PAGES[n % len(_PAGES)]) for n in count())
    caller, browser, dice = program(address, secret), person(address), random.Random(chosen.seed)
    in_turn = cycle(accounts)
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    began = time.monotonic()

    def sample() -> None:
        minute = (time.monotonic() - began) / 60
        memory = {name: private_mb([one.pid]) for name, one in installation.programs.items()}
        for name, megabytes in {**memory, _TOTAL: sum(memory.values())}.items():
            if int(minute) > (int(samples[name][-1][0]) if samples[name] else 0) and name == _TOTAL:
                stage.progress(f"minute {int(minute)}: {memory}")
            samples[name].append((minute, megabytes))

    def asked(who: Any, request: Request) -> None:
        status, _took = who.ask(request)
        if status != request.expected:
            raise SystemExit(f"{request.method} {request.path} answered {status}")

    def browse() -> None:
        asked(browser, next(pages))

    def cut_any() -> None:
        sim.faults.drop(phone=dice.choice(accounts)[1])

    def cut_next() -> None:
        sim.faults.drop(phone=next(in_turn)[1])

    def warming(what: Callable[[], None]) -> Callable[[], None]:
        return lambda: what() if time.monotonic() - began < chosen.warm_up * 60 else None

    regular: list[tuple[float, Callable[[], None]]] = [
        (1 / chosen.rate, lambda: asked(caller, next(letters).request)), (_SAMPLE, sample),
        (_PAGE, browse), (_WARM_PAGE, warming(browse)), (_CUT, cut_any), (_WARM_CUT, warming(cut_next)),
    ]  # fmt: skip
    due = [began + every for every, _what in regular]
    while time.monotonic() - began < chosen.minutes * 60:
        time.sleep(max(0.0, min(due) - time.monotonic()))
        for n, (every, what) in enumerate(regular):
            if due[n] <= time.monotonic():
                due[n] += every
                what()
    return samples


def medians(samples: list[tuple[float, float]], warm_up: float) -> list[float]:
    """Return the median of each whole minute after the warm-up."""
    minutes: dict[int, list[float]] = defaultdict(list)
    for minute, megabytes in samples:
        if minute >= warm_up:
            minutes[int(minute - warm_up)].append(megabytes)
    return [round(statistics.median(values), 2) for _minute, values in sorted(minutes.items())]


def slope(values: list[float]) -> float:
    """Return the Theil-Sen slope, per value."""
    return statistics.median((late - early) / (m - n) for (n, early), (m, late) in combinations(enumerate(values), 2))


if __name__ == "__main__":
    main()
