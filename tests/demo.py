"""`make demo`: the server beside the simulator, so that anyone can try it without WhatsApp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.wasim import Wasim
from tests.wasim.control import Control

ROOT = Path(__file__).parents[1]


def main() -> None:
    folder = ROOT / "var" / "demo"
    with Wasim(folder / "wasim") as sim:
        control = Control(sim)
        print(f"\nThe phone to scan with (paste the QR's text, or enter a code): {control.start()}", flush=True)
        print("The QR's text: .venv/bin/python manage.py sessions show ID --json", flush=True)
        environment = {**os.environ, **sim.environment(), "VAR_DIR": str(folder)}
        try:
            subprocess.run([sys.executable, "manage.py", "server", "run"], cwd=ROOT, env=environment, check=False)
        except KeyboardInterrupt:
            pass
        finally:
            control.stop()


if __name__ == "__main__":
    main()
