"""Reading the logs of all programs as one: lines in order of time, and errors grouped by cause."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

_ERRORS = frozenset({"error", "critical"})
#: supervisord's own lines; and a log level that stands in a line of text.
_SUPERVISORD = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) (\w{4}) (.*)$")
#: What supervisord calls critical at each start, and is neither an error nor news: its socket is for this user alone.
_HABITS = ("running as root", "without any HTTP authentication")
_LEVELS = {"CRIT": "critical", "ERRO": "error", "WARN": "warning", "INFO": "info"}
#: How a program that is not ours says that it is dying: Python without a handler, Go, the system.
_DYING = re.compile(r"^(Traceback \(most recent call last\):|fatal error: |panic: |SIG[A-Z]+: |Fatal Python error|"
                    r"CommandError: |\w*Error: |Segmentation fault)")  # fmt: skip
_NUMBERS = re.compile(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b")
_AGE = re.compile(r"^(\d+)\s*([smhdw])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: A traceback without time belongs to the line before it; so many lines of one are kept.
_TRACE = 60


@dataclass
class Entry:
    """One thing logged. Text that is no JSON (a crash of the interpreter, of Go) has the time of the line before."""

    at: datetime
    level: str
    program: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """Return whether it is an error or worse."""
        return self.level in _ERRORS

    @property
    def cause(self) -> str:
        """Return what it has in common with others of its kind."""
        fields = self.fields
        if "error" in fields:
            text = f"{fields.get('cause', '')} — {fields['error']}" if fields.get("cause") else fields["error"]
        else:
            text = fields.get("cause") or self.message
        return _NUMBERS.sub("#", " ".join(str(text).split()))[:200]

    def is_about(self, sessions: set[int], words: set[str]) -> bool:
        """Return whether it is about one of these sessions, or names one of these words."""
        if self.fields.get("session") in sessions or self.fields.get("account") in words:
            return True
        return any(word in self.message for word in words)

    def shown(self) -> str:
        """Return it as a line for a person, in UTC."""
        about = f" [session {self.fields['session']}]" if "session" in self.fields else ""
        trace = f"\n{self.fields['traceback']}" if "traceback" in self.fields else ""
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.level.upper():<8} {self.program}:{about} {self.message}{trace}"


@dataclass
class Group:
    """Errors with one cause."""

    cause: str
    program: set[str] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)
    count: int = 0
    first: datetime | None = None
    last: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Count one more; entries come in order of time."""
        self.count += 1
        self.program.add(entry.program)
        if "session" in entry.fields:
            self.sessions.add(entry.fields["session"])
        self.first, self.last = self.first or entry.at, entry


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Return the errors among them by cause, the most frequent first."""
    groups: dict[str, Group] = {}
    for entry in entries:
        if entry.is_error:
            groups.setdefault(entry.cause, Group(entry.cause)).add(entry)
    return sorted(groups.values(), key=lambda group: (-group.count, group.cause))


def age(text: str) -> timedelta:
    """Return "90s", "30m", "2h", "3d" or "1w" as a duration. Raises ValueError with a sentence."""
    if not (found := _AGE.match(text.strip())):
        raise ValueError(_("“%(text)s” is not a time: write 90s, 30m, 2h, 3d or 1w.") % {"text": text})
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def read(folder: Path, since: datetime) -> list[Entry]:
    """Return what all programs logged since then, oldest first; rotated and compressed files are read too."""
    entries: list[Entry] = []
    for file in sorted(folder.glob("*.log*")):
        if not file.name.partition(".")[0].endswith("-output") and _modified(file) >= since:
            entries += (entry for entry in parsed(_lines(file), program(file), _modified(file)) if entry.at >= since)
    return sorted(entries, key=lambda entry: entry.at)


def follow(folder: Path) -> Iterator[list[Entry]]:
    """Return, again and again, what was logged since the last time; starts with what comes from now on."""
    read_to = {file: file.stat().st_size for file in _current(folder)}
    while True:
        entries: list[Entry] = []
        for file in _current(folder):
            size, at = file.stat().st_size, read_to.get(file, 0)
            with file.open("rb") as source:
                source.seek(at if at <= size else 0)  # smaller: it was rotated
                text, newline, _unfinished = source.read().rpartition(b"\n")
                read_to[file] = source.tell() - len(_unfinished)
            lines = (text + newline).decode(errors="replace").splitlines()
            entries += parsed(lines, program(file), datetime.now(UTC))
        yield sorted(entries, key=lambda entry: entry.at)


def _current(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.log")) if not file.stem.endswith("-output")]


def program(file: Path) -> str:
    """Return whose log a file is."""
    return file.name.partition(".")[0]


def parsed(lines: Iterable[str], name: str, otherwise: datetime) -> Iterator[Entry]:
    """Return the entries of one file. `otherwise` is the time of text before the first line that has one."""
    at, crash = otherwise, None
    for line in lines:
        entry = _entry(line, name)
        if entry is not None:
            if crash is not None:
                yield crash
            at, crash = entry.at, None
            yield entry
        elif crash is None and line.strip():
            level = "error" if _DYING.match(line) else "info"
            crash = Entry(at, level, name, line.strip())
        elif crash is not None and line.strip():
            _grow(crash, line)
    if crash is not None:
        yield crash


def _grow(crash: Entry, line: str) -> None:
    """More text without a time: an error when any of it says so, named by its last line that is not indented."""
    trace = crash.fields.get("traceback", crash.message).splitlines()
    if len(trace) < _TRACE:
        crash.fields["traceback"] = "\n".join([*trace, line.rstrip()])
    if _DYING.match(line) or crash.level == "error":
        if crash.level != "error" or (not line.startswith((" ", "\t")) and "Error" in line):
            crash.message = line.strip()
        crash.level = "error"


def _entry(line: str, name: str) -> Entry | None:
    if line.startswith("{"):
        try:
            fields = json.loads(line)
            at = datetime.fromisoformat(fields.pop("at"))
            return Entry(at, fields.pop("level"), name, str(fields.pop("message")), fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    if name == "supervisord" and (found := _SUPERVISORD.match(line)):
        local = datetime.strptime(f"{found[1]}.{found[2]}", "%Y-%m-%d %H:%M:%S.%f").astimezone()
        level = "info" if any(habit in found[4] for habit in _HABITS) else _LEVELS.get(found[3], "info")
        return Entry(local.astimezone(UTC), level, name, found[4])
    return None


def _lines(file: Path) -> Iterator[str]:
    with gzip.open(file, "rt", errors="replace") if file.suffix == ".gz" else file.open(errors="replace") as source:
        yield from source


def _modified(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
