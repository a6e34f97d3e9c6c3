"""`make demo`: the server beside the simulator, so that anyone can try it without WhatsApp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.wasim import Wasim
from tests.wasim.control import Control

ROOT = Path(__file__).parents[1]


def main() -> int:
    folder = ROOT / "var" / "demo"
    with Wasim(folder / "wasim") as sim:
        control = Control(sim)
        print(
            "\nA demo: nothing here reaches WhatsApp.\n"
            "1. Log in below, add an account, and leave its QR code on the screen.\n"
            f"2. Open the page that plays the phone and scan it from there: {control.start()}/\n"
            f"Everything is kept in {folder}; delete that folder to begin anew.",
            flush=True,
        )
        environment = {**os.environ, **sim.environment(), "VAR_DIR": str(folder)}
        server = subprocess.Popen([sys.executable, "manage.py", "server", "run"], cwd=ROOT, env=environment)
        # Ctrl-C reaches the server too, which ends in its own time: wait for it.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        code = server.wait()
        control.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
