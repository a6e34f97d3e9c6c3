"""The last hour as a small picture: SVG made here, so that it is there with the page and needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from monitoring.evaluation import STALE, Limits, Reading

WIDTH, HEIGHT, _ROOM = 240, 48, 3
SPAN = timedelta(hours=1)


def sparkline(readings: Sequence[Reading], limits: Limits | None, now: datetime, label: str) -> SafeString:
    """Return the readings (oldest first) of the last hour, with the lines of both thresholds; gaps stay gaps."""
    values = [reading.value for reading in readings if reading.value is not None]
    lines = [limits.warning, limits.critical] if limits else []
    top = max([*values, *lines], default=1)
    scale = (HEIGHT - 2 * _ROOM) / ((top * 1.1) or 1)

    def x(at: datetime) -> float:
        return round(WIDTH * (1 - (now - at) / SPAN), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _ROOM - value * scale, 1)

    marks = [
        f'<line class="hl-{name}" x1="0" x2="{WIDTH}" y1="{max(y(line), 1)}" y2="{max(y(line), 1)}"></line>'
        for name, line in zip(("warning", "critical"), lines, strict=False)
    ]
    for run in _runs(readings):
        points = " ".join(f"{x(r.at)},{y(r.value or 0)}" for r in run)
        marks.append(f'<polyline class="hl-line" points="{points}"></polyline>')
    return format_html(
        '<svg class="hl-spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        WIDTH, HEIGHT, label, mark_safe("".join(marks)),  # noqa: S308 - numbers and our own words
    )  # fmt: skip


def _runs(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Return the readings in runs without a gap."""
    runs: list[list[Reading]] = []
    for reading in readings:
        if reading.value is None:
            continue
        if not runs or reading.at - runs[-1][-1].at >= STALE:
            runs.append([])
        runs[-1].append(reading)
    return [run if len(run) > 1 else [run[0], run[0]] for run in runs]
