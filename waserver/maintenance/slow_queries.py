"""Slow statements, with a suggestion for each: read from its words and from the plan the database makes for it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django.db import DatabaseError, connection
from django.db.models import Max, Sum
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from monitoring.models import SlowQuery
from waserver.maintenance.outcome import Outcome

_MONTH = timedelta(days=30)
_SHOWN = 10
#: How it is written -> what that means. The first that fits.
_WORDS: tuple[tuple[re.Pattern[str], Promise], ...] = (
    (re.compile(r"^\s*(INSERT|UPDATE|DELETE|REPLACE)", re.I),
     lazy("a write: it waited for a lock or the disk; look for long transactions, and at the disk")),
    (re.compile(r"LIKE\s+'?%", re.I),
     lazy("a search within texts, which no index helps: search in fewer rows (an account, a week)")),
    (re.compile(r"SELECT\s+COUNT\(", re.I),
     lazy("a count over everything: it grows with the table; shorten the retention")),
    (re.compile(r"\bOFFSET\s+\d{4,}", re.I), lazy("a page far down: filter by date instead of paging")),
    (re.compile(r"\bORDER BY\b(?!.*\bLIMIT\b)", re.I | re.S), lazy("everything is sorted: ask for fewer rows")),
)  # fmt: skip
_PARAMETER = re.compile(r"%s|\?|%\(\w+\)s")


def review(now: datetime, dry_run: bool) -> Outcome:
    """Return the slow statements of the last 30 days, the most costly first, each with what to do."""
    rows = (
        SlowQuery.objects.filter(at__gte=now - _MONTH).order_by().values("statement")
        .annotate(times=Sum("count"), longest=Max("worst")).order_by("-times")
    )  # fmt: skip
    found = sorted(rows, key=lambda row: row["times"] * row["longest"], reverse=True)
    lines, text = [], _("%(times)6d times, up to %(longest).2f s: %(statement)s")
    for row in found[:_SHOWN]:
        lines.append(text % {**row, "statement": _short(row["statement"])})
        lines.append(f"       → {suggestion(row['statement'], plan(row['statement']))}")
    return Outcome(lines or [_("None.")], counts={"slow_queries": len(found)})


def suggestion(statement: str, read_whole: list[str]) -> str:
    """Return what to do about a statement; `read_whole` are the tables its plan reads from end to end. Pure."""
    writes, text = _WORDS[0]
    if writes.search(statement):
        return str(text)
    if read_whole:
        columns = sorted(set(_compared(statement)))
        advice = (
            _("the whole of %(tables)s is read: an index on (%(columns)s) would help") if columns
            else _("the whole of %(tables)s is read: an index would help")
        )  # fmt: skip
        return advice % {"tables": ", ".join(read_whole), "columns": ", ".join(columns)}
    for pattern, text in _WORDS[1:]:
        if pattern.search(statement):
            return str(text)
    return _("an index is used: the machine was busy, or the answer is large")


def plan(statement: str) -> list[str]:
    """Return the tables the database would read from end to end for it; [] when it cannot be told."""
    if not re.match(r"\s*SELECT\b", statement, re.I):
        return []
    question = _PARAMETER.sub("'1'", statement)  # not NULL: what is compared with that is never read
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    try:
        with connection.cursor() as cursor:
            cursor.execute(explain + question.replace("%", "%%"), [])
            rows = cursor.fetchall()
            names = [column[0] for column in cursor.description]
    except (DatabaseError, ValueError, TypeError):  # cut short, or of a table that is gone
        return []
    if connection.vendor == "sqlite":
        steps = [str(row[3]) for row in rows]
        return [step.split()[1].strip('"') for step in steps if step.startswith("SCAN ") and "USING" not in step]
    return [str(row[names.index("table")]) for row in rows if row[names.index("type")] == "ALL"]


def _compared(statement: str) -> list[str]:
    where = statement.partition(" WHERE ")[2]
    return re.findall(r"[\"`](\w+)[\"`]\s*(?:=|<|>|IN\b|LIKE\b|IS\b)", where, re.I)


def _short(statement: str) -> str:
    flat = " ".join(statement.split())
    return flat if len(flat) <= 160 else flat[:157] + "..."
