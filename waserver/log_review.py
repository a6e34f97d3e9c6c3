"""Errors in the logs, grouped by cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_LEVELS = frozenset({"error", "critical"})
#: Of one file no more than its last so many bytes are read.
_TAIL = 20_000_000


@dataclass(frozen=True)
class Cause:
    """Error lines with one cause: the text before its values were filled in."""

    cause: str
    count: int
    last: datetime
    programs: list[str]


def causes(folder: Path, since: datetime) -> list[Cause]:
    """Return the causes of the errors logged since then in VAR_DIR/log, most frequent first."""
    found: dict[str, Cause] = {}
    for file in sorted([*folder.glob("*.log"), *folder.glob("*.log.[0-9]")]):
        if file.stat().st_mtime < since.timestamp():
            continue
        program = file.name.split(".log")[0]
        for line in _lines(file):
            at = datetime.fromisoformat(line["at"])
            if line.get("level") not in _LEVELS or at < since:
                continue
            text = str(line.get("cause") or line.get("message") or "?")
            if line.get("error"):
                text = f"{text}: {str(line['error']).split(':')[0]}"
            known = found.get(text, Cause(text, 0, at, []))
            found[text] = Cause(text, known.count + 1, max(at, known.last), sorted({*known.programs, program}))
    return sorted(found.values(), key=lambda one: one.count, reverse=True)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Give the lines that are ours; what libraries print as plain text is left out."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _TAIL))
        for raw in log:
            if not raw.startswith(b"{"):
                continue
            try:
                line = json.loads(raw)
                datetime.fromisoformat(line["at"]).astimezone(UTC)
            except (ValueError, KeyError, TypeError):
                continue
            yield line
