"""The report as text, JSON, CSV and as a page that needs nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from monitoring.reporting.shape import Report

#: Accounts listed in a text, those with the least uptime first; JSON, CSV and HTML list all.
_LISTED = 30


def as_json(report: Report) -> str:
    """Return it as docs/report.schema.json has it."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def as_csv(report: Report) -> str:
    """Return one number a line: part, what it is about, its name, the number. Empty is unknown."""
    out = io.StringIO()
    sheet = csv.writer(out)
    sheet.writerow(["part", "subject", "name", "value"])
    for part in ("version", "generated_at", "since", "until", "uptime"):
        sheet.writerow(["report", "", part, _cell(report[part])])
    for part in ("requests", "operations", "memory", "capacity"):
        for name, value in report[part].items():  # type: ignore[literal-required]
            if not isinstance(value, list):
                sheet.writerow([part, "", name, _cell(value)])
    lists: tuple[tuple[str, Sequence[Any], str], ...] = (
        ("accounts", report["accounts"], "label"), ("reconnects", report["reconnects"], "meaning"),
        ("routes", report["requests"]["slowest"], "route"), ("hours", report["hours"], "at"),
        ("incidents", report["incidents"], "title"),
    )  # fmt: skip
    for part, rows, subject in lists:
        for row in rows:
            for name, value in row.items():
                if name != subject:
                    sheet.writerow([part, _cell(row[subject]), name, _cell(value)])
    return out.getvalue()


def _cell(value: Any) -> Any:
    # A label that begins like a formula would be run by a spreadsheet.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def as_html(report: Report) -> str:
    """Return a page of its own, to be kept or sent: its style is in it, it loads nothing and runs nothing."""
    style = ""
    if path := finders.find("monitoring/report.css"):
        with open(str(path), encoding="utf-8") as file:
            style = file.read()
    return render_to_string("monitoring/report_file.html", {**context(report), "style": style})


def context(report: Report) -> dict[str, Any]:
    """Return what templates/monitoring/report_body.html needs."""
    most = max((hour["requests"] + hour["messages"] for hour in report["hours"]), default=0)
    return {
        "report": report,
        "since": moment(report["since"]),
        "until": moment(report["until"]),
        "uptime": percent(report["uptime"]),
        "error_rate": percent(report["operations"]["error_rate"]),
        "accounts": [
            {**one, "share": percent(one["uptime"]), "down_for": duration(one["down"]),
             "longest": duration(one["longest_outage"]), "note": _note(one)}
            for one in report["accounts"]
        ],
        "reconnects": [
            {**one, "median_time": duration(one["median"]), "p95_time": duration(one["p95"])}
            for one in report["reconnects"]
        ],
        "times": [(name, seconds(report["requests"][name])) for name in ("p50", "p95", "p99")],
        "slowest": [{**one, "time": seconds(one["p95"])} for one in report["requests"]["slowest"]],
        "busiest": [{**one, "moment": moment(one["at"])} for one in report["busiest"]],
        "bars": [
            {"moment": moment(hour["at"]), "n": hour["requests"] + hour["messages"], "x": number * 10,
             "height": round(60 * (hour["requests"] + hour["messages"]) / most, 1),
             "y": round(60 - 60 * (hour["requests"] + hour["messages"]) / most, 1)}
            for number, hour in enumerate(report["hours"])
        ] if most and len(report["hours"]) <= 24 * 8 else [],
        "bars_width": len(report["hours"]) * 10,
        "incidents": [
            {**one, "opened": moment(one["opened_at"]), "for": duration(one["lasted"])} for one in report["incidents"]
        ],
    }  # fmt: skip


def as_text(report: Report) -> str:
    """Return it for a terminal or a mail."""
    shown = context(report)
    requests, memory = report["requests"], report["memory"]
    values = {
        **shown, "accounts": len(report["accounts"]), "operations": report["operations"]["count"],
        "requests": requests["count"], "errors": requests["errors"], "memory": _points(memory["last"]),
        "times": ", ".join(f"{name} {time}" for name, time in shown["times"]), "trend": memory["sentence"],
        "capacity": report["capacity"]["sentence"],
    }  # fmt: skip
    lines = [
        _("waserver, %(since)s to %(until)s") % values,
        "",
        _("Uptime      %(uptime)s over %(accounts)d accounts") % values,
        _("Errors      %(error_rate)s of %(operations)d operations") % values,
        _("API         %(requests)d requests, %(errors)d server errors") % values,
        _("Times       %(times)s") % values,
        _("Memory      %(memory)s  %(trend)s") % values,
        _("Capacity    %(capacity)s") % values,
    ]
    worst = sorted(shown["accounts"], key=lambda one: (one["uptime"] is None, one["uptime"] or 0, one["label"]))
    lines += _table(_("Accounts"), [_("account"), _("uptime"), _("down"), _("lost"), _("longest"), ""], [
        [one["label"], one["share"], one["down_for"], str(one["losses"]), one["longest"], one["note"]]
        for one in worst[:_LISTED]
    ])  # fmt: skip
    if len(worst) > _LISTED:
        lines.append(_("  and %(count)d more") % {"count": len(worst) - _LISTED})
    lines += _table(_("Connections lost, by code"), [_("code"), "", _("lost"), _("back"), _("median"), "p95"], [
        [str(one["code"] or "–"), one["meaning"], str(one["lost"]), str(one["back"]), one["median_time"],
         one["p95_time"]]
        for one in shown["reconnects"]
    ])  # fmt: skip
    lines += _table(_("Busiest hours"), [_("from"), _("requests"), _("messages")], [
        [one["moment"], str(one["requests"]), str(one["messages"])] for one in shown["busiest"]
    ])  # fmt: skip
    lines += _table(_("Slowest routes"), [_("route"), _("requests"), _("errors"), "p95"], [
        [one["route"], str(one["count"]), str(one["errors"]), one["time"]] for one in shown["slowest"]
    ])  # fmt: skip
    lines += _table(_("Incidents"), [_("opened"), _("severity"), _("state"), _("lasted"), ""], [
        [one["opened"], one["severity"], one["state"], one["for"], one["title"]] for one in shown["incidents"][:_LISTED]
    ])  # fmt: skip
    if report["missing"]:
        lines += ["", *report["missing"]]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {"text": as_text, "json": as_json, "html": as_html, "csv": as_csv}


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with columns as wide as they need to be; nothing when there are no rows."""
    if not rows:
        return []
    widths = [max(len(str(row[n])) for row in [heads, *rows]) for n in range(len(heads))]
    lines = ["", title]
    for row in [heads, *rows]:
        cells = (str(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return lines


def _note(one: Any) -> str:
    if one["uptime"] is None and one["unknown"]:
        return _("unknown")
    if one["uptime"] is None:
        return _("no connection was expected")
    return _("partly unknown") if one["unknown"] else ""


def percent(share: float | None) -> str:
    """Return a share as people read it. What is not quite 100 % is never shown as 100 %."""
    if share is None:
        return "–"
    digits = 2
    while share < 1 and round(100 * share, digits) == 100 and digits < 4:
        digits += 1
    return f"{100 * share:.{digits}f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def seconds(value: float | None) -> str:
    """Return a response time, e.g. "250 ms" or "3.2 s"."""
    if value is None:
        return "–"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def duration(value: float | None) -> str:
    """Return a duration in at most two units, e.g. "3 h 20 min"."""
    if value is None:
        return "–"
    span = timedelta(seconds=round(value))
    hours, rest = divmod(span.seconds, 3600)
    minutes, left = divmod(rest, 60)
    units = [(span.days, _("d")), (hours, _("h")), (minutes, _("min")), (left, _("s"))]
    first = next((number for number, (count, _unit) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count or first == 3)


def moment(text: str) -> str:
    """Return a time of the report on the server's clock (TIME_ZONE)."""
    return date_format(timezone.localtime(datetime.fromisoformat(text)), "j M Y, H:i")
