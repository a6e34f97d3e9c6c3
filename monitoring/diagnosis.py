"""Evidence for people: who fails, with what, what the logs say; what is slow."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Sum

from monitoring.measuring.operations import FAILED_REQUESTS
from monitoring.measuring.requests import routes
from monitoring.models import RequestCount, SlowQuery
from sessions_app.models import SessionEvent

_SPAN = timedelta(minutes=15)
#: So many of each are shown.
_TOP = 5
_LINES, _LINE_LETTERS = 12, 300
#: Read so much from the end of each log.
_TAIL = 64_000
_BAD = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|\"level\": ?\"(warning|error|critical)\"", re.IGNORECASE)


def failures(now: datetime) -> dict[str, Any]:
    """Return the accounts that failed most in the last 15 minutes, the codes, failing routes and last log lines."""
    events = SessionEvent.objects.filter(at__gt=now - _SPAN, kind__in=FAILED_REQUESTS).order_by()
    accounts = events.values("session__account__label").annotate(failed=Count("pk")).order_by("-failed")[:_TOP]
    codes = events.values("code", "kind").annotate(failed=Count("pk")).order_by("-failed")[:_TOP]
    failing = (
        RequestCount.objects.since(now - _SPAN).values("route").annotate(failed=Sum("errors"), all=Sum("count"))
        .filter(failed__gt=0).order_by("-failed")[:_TOP]
    )  # fmt: skip
    return {
        "accounts": [{"account": row["session__account__label"], "failed": row["failed"]} for row in accounts],
        "codes": [{"code": row["code"], "what": row["kind"], "failed": row["failed"]} for row in codes],
        "routes": [{"route": row["route"], "failed": row["failed"], "requests": row["all"]} for row in failing],
        "log": log_lines(),
    }


def slowness(now: datetime) -> dict[str, Any]:
    """Return the slowest routes and statements of the last 15 minutes; statements without their parameters."""
    slow = (
        SlowQuery.objects.filter(at__gt=now - _SPAN).values("statement")
        .annotate(longest=Max("worst"), times=Sum("count")).order_by("-longest")[:_TOP]
    )  # fmt: skip
    return {
        "routes": [
            {"route": route.route, "requests": route.count, "p50": round(route.p50, 3), "p95": round(route.p95, 3)}
            for route in routes(now - _SPAN)[:_TOP]
        ],
        "queries": [{"statement": row["statement"], "longest": round(row["longest"], 3), "times": row["times"]}
                    for row in slow],
    }  # fmt: skip


def log_lines() -> list[str]:
    """Return the last lines of warnings and errors of all programs, with the program's name, repeated ones counted."""
    lines: list[tuple[float, str]] = []
    for file in sorted(Path(settings.LOG_DIR).glob("*.log")):
        for line in _tail(file):
            if _BAD.search(line):
                lines.append((file.stat().st_mtime, f"{file.stem}: {line.strip()[:_LINE_LETTERS]}"))
    lines.sort(key=lambda pair: pair[0])
    counted = Counter(text for _mtime, text in lines)
    newest = list(dict.fromkeys(text for _mtime, text in reversed(lines)))[:_LINES]
    return [f"{text} (×{counted[text]})" if counted[text] > 1 else text for text in reversed(newest)]


def _tail(file: Path) -> list[str]:
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - _TAIL))
            return handle.read().decode(errors="replace").splitlines()[1 if size > _TAIL else 0 :]
    except OSError:
        return []
