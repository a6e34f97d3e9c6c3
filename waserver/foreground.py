"""`python -m waserver.foreground CONFIG`: supervisord in the foreground, started again should it be killed. Without
Django: `server run` turns into this, and what it needed to prepare is not kept in memory."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from waserver import processes
from waserver.guard import SUPERVISORD, died, load, save

_PR_SET_PDEATHSIG = 1
#: Seconds a supervisord must have run for, to be worth another one.
_WORTH = 5.0


def main(arguments: list[str]) -> NoReturn:
    """Run until SIGINT, SIGTERM or SIGHUP, which are passed on once; ends with supervisord's exit code."""
    config, server_url = Path(arguments[0]), arguments[1]
    asked = False
    supervisord: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True
        if supervisord is not None:
            supervisord.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    while True:
        began = time.monotonic()
        supervisord = _start(config)
        code = supervisord.wait()
        if asked or code != -signal.SIGKILL:
            break
        print(f"supervisord (process {supervisord.pid}) was killed; everything is started again.", flush=True)
        processes.end(processes.started_by(server_url))
        records = load(config.parent)
        save(config.parent, {**records, SUPERVISORD: died(records.get(SUPERVISORD), time.time())})
        if asked or time.monotonic() - began < _WORTH:
            break
    print("Stopped.", flush=True)
    if code not in (0, -signal.SIGTERM):
        sys.exit(f"supervisord ended with {code}; see supervisord.log in the folder of the logs.")
    sys.exit(0)


def _start(config: Path) -> subprocess.Popen[bytes]:
    """A session of its own: Ctrl-C reaches this process alone. When this process is killed, supervisord is told."""
    libc = ctypes.CDLL(None)

    def with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-n", "-s", "-c", str(config)],
        env={**os.environ, "WASERVER_FOREGROUND": "1"}, start_new_session=True,
        preexec_fn=with_parent,  # noqa: PLW1509 - one thread only
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
