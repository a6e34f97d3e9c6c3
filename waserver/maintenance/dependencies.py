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
from django.utils.translation import gettext as _

from waserver.maintenance.outcome import Outcome

_PIN = re.compile(r"^([\w.-]+)==([\w.]+)")
#: Seconds pip-audit may take.
PATIENCE = 180


def check(now: datetime, dry_run: bool) -> Outcome:
    """Compare what is installed with the pins, and ask pip-audit where it can be asked."""
    troubles = [*differences(Path(settings.BASE_DIR) / "requirements.txt")]
    lines = [] if troubles else [_("Installed is what requirements.txt pins.")]
    audited = Outcome([_("A dry run asks nobody about known weaknesses.")]) if dry_run else audit()
    return Outcome(lines + audited.lines, troubles + audited.troubles, audited.counts)


def differences(requirements: Path) -> list[str]:
    """Return a sentence for each package that is installed in another version than its pin, or not at all."""
    found, text = [], _("%(package)s is %(installed)s, and %(tested)s was tested: run `make setup`.")
    for line in requirements.read_text().splitlines():
        if match := _PIN.match(line):
            try:
                installed = version(match[1])
            except PackageNotFoundError:
                installed = _("not installed")
            if installed != match[2]:
                found.append(text % {"package": match[1], "installed": installed, "tested": match[2]})
    return found


def audit() -> Outcome:
    """Ask pip-audit; when it is not there or reaches nobody, say so."""
    if importlib.util.find_spec("pip_audit") is None:
        return Outcome([_("Known weaknesses were not looked up: `pip install pip-audit` makes that possible.")])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner", "off", "-f", "json"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return read(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return Outcome([_("Known weaknesses could not be looked up: pip-audit reached no database of them.")])


def read(answer: dict[str, Any]) -> Outcome:
    """Return what pip-audit found. Pure."""
    weak = [package for package in answer["dependencies"] if package.get("vulns")]
    troubles = []
    for package in weak:
        names = ", ".join(weakness["id"] for weakness in package["vulns"])
        fixed = sorted({one for weakness in package["vulns"] for one in weakness.get("fix_versions", [])})
        text = (
            _("%(package)s %(version)s has %(names)s: install %(fixed)s.") if fixed
            else _("%(package)s %(version)s has %(names)s: no version without it is known yet.")
        )  # fmt: skip
        troubles.append(text % {
            "package": package["name"], "version": package["version"], "names": names,
            "fixed": f" {_('or')} ".join(fixed),
        })  # fmt: skip
    counts = {"count": len(answer["dependencies"]), "weak": len(weak)}
    line = _("%(count)d packages looked up, %(weak)d with known weaknesses.") % counts
    return Outcome([line], troubles, {"weak": len(weak)})
