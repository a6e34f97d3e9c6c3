"""Dependencies: are those installed that were tested together, and is a weakness known in one of them?

pip-audit is not among what waserver needs to run: it is asked when it is installed (it is with requirements-dev.txt).
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings

from waserver.maintenance.outcome import Outcome

_PIN = re.compile(r"^([\w.-]+)==([\w.]+)")
#: Seconds pip-audit may take.
PATIENCE = 180


def check(now: datetime, dry_run: bool) -> Outcome:
    """Compare what is installed with the pins, and ask pip-audit where it can be asked."""
    troubles = [*differences(Path(settings.BASE_DIR) / "requirements.txt")]
    lines = [] if troubles else ["Installed is what requirements.txt pins."]
    audited = Outcome(["A dry run asks nobody about known weaknesses."]) if dry_run else audit()
    return Outcome(lines + audited.lines, troubles + audited.troubles, audited.counts)


def differences(requirements: Path) -> list[str]:
    """Return a sentence for each package that is installed in another version than its pin, or not at all."""
    found = []
    for line in requirements.read_text().splitlines():
        if match := _PIN.match(line):
            try:
                installed = version(match[1])
            except PackageNotFoundError:
                installed = "not installed"
            if installed != match[2]:
                found.append(f"{match[1]} is {installed}, and {match[2]} was tested: run `make setup`.")
    return found


def audit() -> Outcome:
    """Ask pip-audit; when it is not there or reaches nobody, say so."""
    if importlib.util.find_spec("pip_audit") is None:
        return Outcome(["Known weaknesses were not looked up: `pip install pip-audit` makes that possible."])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner", "off", "-f", "json"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return read(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return Outcome(["Known weaknesses could not be looked up: pip-audit reached no database of them."])


def read(answer: dict[str, Any]) -> Outcome:
    """Return what pip-audit found. Pure."""
    weak = [package for package in answer["dependencies"] if package.get("vulns")]
    troubles = []
    for package in weak:
        names = ", ".join(weakness["id"] for weakness in package["vulns"])
        fixed = sorted({one for weakness in package["vulns"] for one in weakness.get("fix_versions", [])})
        do = f"install {' or '.join(fixed)}" if fixed else "no version without it is known yet"
        troubles.append(f"{package['name']} {package['version']} has {names}: {do}.")
    count = len(answer["dependencies"])
    return Outcome([f"{count} packages looked up, {len(weak)} with known weaknesses."], troubles, {"weak": len(weak)})
