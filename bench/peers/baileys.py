"""Sessions on Baileys, the library the old server ran on: one Node process, an auth folder per session."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.wasim import Wasim

_HERE = Path(__file__).parent
T = TypeVar("T")
#: Of the device that is paired once and copied.
_TEMPLATE_NUMBER = "6281299900000"


class MissingNode(Exception):
    """Node.js, npm or the package is not to be had; the text says what to do."""


def install() -> Path:
    """Install the pinned packages beside this file (never their scripts); return the folder. Raises MissingNode."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise MissingNode("This comparison needs Node.js 20 or newer with npm: install them, or leave it out.")
    if not (_HERE / "node_modules" / "@whiskeysockets").is_dir():
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=_HERE, check=False, stdout=subprocess.DEVNULL).returncode:
            raise MissingNode(f"npm could not install {_HERE / 'package.json'}: is its registry reached?")
    return _HERE


class NodeEnded(Exception):
    """The Node process has ended by itself; the text says what it said last."""


class Baileys:
    """The Node process and what it said. Use as a context manager."""

    def __init__(self, sim: Wasim, folder: Path) -> None:
        self._sim, self._folder = sim, folder
        self.said: list[dict[str, Any]] = []
        self.open: set[str] = set()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Baileys:
        proxy, root = f"http://127.0.0.1:{self._sim.port}", self._sim.server.root.public.hex()
        argument, self._complaints = json.dumps({"proxy": proxy, "root": root}), tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            ["node", "baileys.mjs", argument], cwd=install(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._complaints, text=True,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(self._sim.server.tls.authority)},
        )  # fmt: skip
        self.process = psutil.Process(self._process.pid)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._complaints.close()

    def until(self, what: Callable[[], T], seconds: float) -> T:
        """Return the first true value of `what`. Raises TimeoutError, and NodeEnded."""

        def there() -> T:
            if self._process.poll() is not None:
                raise NodeEnded(f"Baileys ended with exit code {self._process.returncode}: {self._last_words()}")
            return what()

        return wait_for(there, seconds)

    def start(self, numbers: list[str], seconds: float = 300) -> None:
        """Connect a session for each number and wait until all are open. Raises TimeoutError, and NodeEnded."""
        folders = [self._cloned(number) for number in numbers]
        for folder in folders:
            self._tell(do="start", folder=str(folder))
        self.until(lambda: len(self.open) == len(numbers), seconds)

    def send(self, senders: list[str], count: int, away: int, seconds: float = 300) -> float:
        """Send `count` messages from each of these numbers at once, to the number so far away from it; return messages
        per second. Raises TimeoutError, and NodeEnded."""
        began, before = time.monotonic(), self.counts["sent"] + self.counts["unsent"]
        for n in range(count):
            for sender in senders:
                self._tell(do="send", folder=str(self._folder / sender), to=str(int(sender) + away), text=f"m{n}")
        wanted = count * len(senders)
        self.until(lambda: self.counts["sent"] + self.counts["unsent"] - before >= wanted, seconds)
        return wanted / (time.monotonic() - began)

    def _cloned(self, number: str) -> Path:
        template = self._template()
        copy, device = self._folder / number, self._sim.device(_TEMPLATE_NUMBER)
        lid = self._sim.server.phone(number).lid_user
        shutil.copytree(template, copy)
        for file in copy.glob("*.json"):
            text = file.read_text().replace(_TEMPLATE_NUMBER, number).replace(device.lid_user, lid)
            file.write_text(text)
        self._sim.add_device(str(device.jid).replace(_TEMPLATE_NUMBER, number),
                             str(device.lid).replace(device.lid_user, lid), device)  # fmt: skip
        return copy

    def _template(self) -> Path:
        folder = self._folder / "template"
        if folder.exists():
            return folder
        pairing = self._folder / "pairing"
        self._tell(do="start", folder=str(pairing))
        code = self.until(lambda: next((said["text"] for said in self.said if said["on"] == "qr"), ""), 60)
        if error := self._sim.phone(_TEMPLATE_NUMBER).scan(code):
            raise RuntimeError(f"Baileys did not accept the phone: {error}")
        self.until(lambda: str(pairing) in self.open, 60)
        time.sleep(3)  # it writes its keys in the background and never says when that is done
        shutil.copytree(pairing, folder)
        self._tell(do="stop", folder=str(pairing))
        wait_for(lambda: not self._sim.device(_TEMPLATE_NUMBER).live_sockets, 20)
        self.open.discard(str(pairing))
        return folder

    def _tell(self, **command: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `until` says that it has ended, and why
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _last_words(self) -> str:
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").splitlines()
        return next((line for line in said if "rror" in line), "nothing was said")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:  # the library prints what it likes
                continue
            self.said.append(said)
            self.counts[said["on"]] += 1
            if said["on"] == "open":
                self.open.add(said["folder"])
            elif said["on"] == "close":
                self.open.discard(said["folder"])


def wait_for(what: Callable[[], T], seconds: float) -> T:
    """Return the first true value of `what`. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > until:
            raise TimeoutError(f"it did not happen in {seconds:.0f} s")
        time.sleep(0.05)
    return value
