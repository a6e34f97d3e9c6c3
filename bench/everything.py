"""Run every bench, one after the other, and write docs/benchmarks.md with what they printed: about an hour, or two.

--long watches memory for as long as its figure is claimed, 70 minutes; without it ten have to do, which show a leak per
message but are too short for 1 % per hour.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
_MARIADB, _REDIS = "mysql://root@127.0.0.1:3306/", "redis://127.0.0.1:6379/9"
#: Seconds one bench may take.
_PATIENCE, _LONG_PATIENCE = 1500, 6000


@dataclass(frozen=True)
class Bench:
    """One measurement: its command, what it has to reach, and whether it needs MariaDB, Redis or Node.js."""

    command: str
    wanted: str
    needs: str = ""
    patience: int = _PATIENCE


_API = "no errors, nothing lost"
_KILLS = "lost = duplicated = 0 though each program is SIGKILLed, uncertain at most in_flight_at_kills"
_MEMORY = "slope of the total under 1 % per hour, nothing lost"

BENCHES = (
    Bench("live_back.py --accounts 10000", "a tick in at most 0.3 s and 10 queries"),
    Bench(f"live_back.py --accounts 10000 --database-url {_MARIADB}", "the same", "MariaDB"),
    Bench("storm.py --sessions 100 --hosts 2", "all back within 10 s, double_live 0"),
    Bench("storm.py --sessions 300 --hosts 3", "all back within 15 s, double_live 0, at most 1,050 MB"),
    Bench("messages.py --count 1000 --accounts 10", "100 accepted/s, 60 sent/s, lost = duplicated = 0"),
    Bench(f"messages.py --count 1000 --accounts 10 --database-url {_MARIADB} --redis-url {_REDIS}",
          "200 accepted/s, 150 sent/s, lost = duplicated = 0", "MariaDB and Redis"),
    Bench("messages.py --count 1000 --accounts 10 --kills 10", _KILLS),
    Bench(f"messages.py --count 1000 --accounts 10 --kills 10 --database-url {_MARIADB} --redis-url {_REDIS}", _KILLS,
          "MariaDB and Redis"),
    Bench("api.py --seconds 20 --callers 8", _API),
    Bench(f"api.py --seconds 20 --callers 8 --database-url {_MARIADB} --redis-url {_REDIS}", _API, "MariaDB and Redis"),
    Bench("cold_start.py --sessions 500 --hosts 5",
          "all connected within 180 s, web p95 under 200 ms meanwhile (on 4 cores), web_errors = double_live = 0"),
    Bench("admin_pages.py", "under 300 ms, queries independent of the number of accounts"),
    Bench("fanout.py", "each of 200 browsers told within 1 s"),
    Bench(f"fanout.py --redis-url {_REDIS}", "each of 200 browsers told within 1 s", "Redis"),
    Bench("collection.py", "under 1 % of a request, under 50 MB a year for 100 accounts"),
    Bench("forecast.py", "better than same as yesterday"),
    Bench("peers/compare.py --sessions 300", "0.75 of the memory (hosts alone 0.5), a third of the idle CPU, "
          "a fifth of the reconnect time", "Node.js", _LONG_PATIENCE),
)  # fmt: skip
_TITLE = """# Benchmarks

Written by `make bench`, each section by the run it names (`bench/everything.py --only WORD` measures some again). The
load of other programs is not removed from the figures; repeat them on your own machine.

"""
SHORT = Bench("memory.py --sessions 20 --minutes 33 --warm-up 13 --rate 8", f"{_MEMORY}; over an hour, see --long",
              patience=_LONG_PATIENCE)
LONG = Bench("memory.py --sessions 20 --minutes 75 --warm-up 15 --rate 8", _MEMORY, patience=_LONG_PATIENCE)


def main() -> None:
    """Run what was chosen; the page is written after each, so that what was interrupted keeps what it has."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--long", action="store_true", help="watch memory for an hour instead of 20 minutes")
    options.add_argument("--only", default="", help="run those whose command contains this; the page keeps the others")
    chosen = options.parse_args()
    benches = (*BENCHES, LONG if chosen.long else SHORT)
    for bench in benches:
        if chosen.only not in bench.command:
            continue
        print(f"== bench/{bench.command}", file=sys.stderr, flush=True)
        printed, took = run(bench)
        print(printed, flush=True)
        sections = _sections() | {_heading(bench): _section(bench, printed, took)}
        order = {_heading(each): n for n, each in enumerate((*BENCHES, SHORT, LONG))}
        PAGE.write_text(_TITLE + "\n".join(text for name, text in sorted(
            sections.items(), key=lambda one: order.get(one[0], len(order))) if name in order))  # fmt: skip


def run(bench: Bench) -> tuple[str, float]:
    """Return what a bench printed (or why it did not), and the seconds it took."""
    began = time.monotonic()
    command = [sys.executable, *(f"bench/{bench.command}".split())]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=bench.patience,
                              check=False)
    except subprocess.TimeoutExpired:
        return f"not finished within {bench.patience} s", time.monotonic() - began
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        needs = f" (it needs {bench.needs})" if bench.needs else ""
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return f"failed{needs}: {last}", time.monotonic() - began
    return lines[-1], time.monotonic() - began


def _heading(bench: Bench) -> str:
    return f"## `bench/{bench.command}`"


def _sections() -> dict[str, str]:
    """Return what the page has, by heading."""
    found = PAGE.read_text().split("\n## ")[1:] if PAGE.exists() else []
    return {f"## {text.splitlines()[0]}": f"## {text.rstrip()}\n" for text in found}


def _section(bench: Bench, printed: str, took: float) -> str:
    with contextlib.suppress(ValueError):  # the sentence why it failed
        printed = json.dumps(json.loads(printed), indent=1)
    return "\n".join([_heading(bench), "", f"Wanted: {bench.wanted}.", "", f"Took {took:.0f} s on {_machine()}.", "",
                      "```json", printed, "```", ""])  # fmt: skip


def _machine() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=False).stdout.strip()  # fmt: skip
    memory = psutil.virtual_memory().total / 1e9
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()) + (f", commit {commit}" if commit else "")
    return (f"{when}: {psutil.cpu_count()} cores ({_processor()}), {memory:.0f} GB; Python "
            f"{platform.python_version()}, Django {version('Django')}, neonize {version('neonize')}; load average "
            f"{psutil.getloadavg()[1]:.1f}")  # fmt: skip


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
