"""One log line: JSON for a file, plain text for a terminal; secrets are taken out of both. Without Django: the guard
uses it."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from sessions_app.log_context import current

#: What must never stand in a log, and what stands there instead. In this order.
SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"https://wa\.me/settings/linked_devices#?[^\s\"']*"), "[QR text]"),
    (re.compile(r"\b\d@[A-Za-z0-9+/=_-]{20,}(,[A-Za-z0-9+/=_-]+)*"), "[QR text]"),
    # WhatsApp's pairing codes: two groups of four, from an alphabet without 0, I, O and U; a letter at least.
    (re.compile(r"\b(?=[1-9-]*[A-Z])[1-9A-HJ-NP-TV-Z]{4}-[1-9A-HJ-NP-TV-Z]{4}\b"), "[pairing code]"),
    (re.compile(r"://[^/\s@\"']+@"), "://•••@"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), "[webhook secret]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), r"\1 •••"),
    (re.compile(r"(?i)\b([a-z_-]*(?:password|passwd|secret|token|api[_-]?key|authorization))(\\?[\"']?\s*[:=]\s*\\?[\"']?)"
                r"(?!•|\[|bearer |basic )[^\s\"',;&\\]+"), r"\1\2•••"),
    (re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])"), "[key]"),
    (re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])"), "[key]"),
)  # fmt: skip

_OUR_FIELDS = ("session", "account", "host", "incident", "message_id", "request_id", "program")
_SESSION_FIRST = re.compile(r"[^%]*\b[Ss]ession %d")


def redact(text: str) -> str:
    """Return `text` without secrets."""
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


class Lines(logging.Formatter):
    """The formatter of every process. `form` is json, text, or auto: text when stderr is a terminal."""

    def __init__(self, form: str = "auto") -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._text = form == "text" or (form == "auto" and sys.stderr.isatty())

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end inside when it is JSON."""
        if self._text:
            return redact(super().format(record))
        return json.dumps(_fields(self, record), ensure_ascii=False, default=str)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(), "logger": record.name, "message": redact(record.getMessage()),
    }  # fmt: skip
    fields.update(_about(record))
    if record.levelno >= logging.WARNING:
        fields["cause"] = redact(str(record.msg))[:200]
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = redact(f"{record.exc_info[0].__name__}: {record.exc_info[1]}")[:500]
        fields["traceback"] = redact(formatter.formatException(record.exc_info))
    fields["pid"] = record.process
    return fields


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the line is about: named in `extra`, else said in the line itself, else by log_context.about."""
    about: dict[str, Any] = dict(current())
    arguments = record.args
    if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], int) and _SESSION_FIRST.match(
            str(record.msg)):  # fmt: skip
        about["session"] = arguments[0]
    about.update({name: getattr(record, name) for name in _OUR_FIELDS if getattr(record, name, None) is not None})
    return {name: redact(value) if isinstance(value, str) else value for name, value in about.items()}
