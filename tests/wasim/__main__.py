"""The simulator by hand: `python -m tests.wasim [--folder DIR] [--port N] [--page N]`; Ctrl+C ends it."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import tempfile
import threading
from pathlib import Path

from .control import Control
from .wasim import Wasim


def main() -> None:
    """Serve until interrupted."""
    options = argparse.ArgumentParser(prog="python -m tests.wasim", description="A WhatsApp server on loopback.")
    options.add_argument("--folder", type=Path, help="where it remembers its keys and devices (default: a new one)")
    options.add_argument("--port", type=int, default=0, help="of the proxy clients go through (default: any)")
    options.add_argument("--page", type=int, default=0, help="of the page that plays the phone (default: any)")
    options.add_argument("--verbose", action="store_true", help="log every connection")
    chosen = options.parse_args()
    logging.basicConfig(level=logging.DEBUG if chosen.verbose else logging.WARNING)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Wasim(chosen.folder or Path(tempfile.mkdtemp(prefix="wasim-")), chosen.port) as sim:
        page = Control(sim).start(chosen.page)
        for name, value in sim.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# the phone: {page}/", flush=True)
        ended.wait()


main()
