"""One picture of the server for a terminal: cards, sessions, incidents, the newest log lines."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitoring.cards import cards
from monitoring.models import Incident, Severity
from monitoring.reporting.render import duration
from sessions_app.explanations import AMBER, BLUE, GREEN, GREY, RED, explain
from sessions_app.models import Host, Session

#: Sessions and incidents shown, the worst first; bytes read from the end of each log.
SESSIONS, INCIDENTS, TAIL = 12, 5, 4096
_HUES = {GREEN: "green", BLUE: "blue", AMBER: "yellow", RED: "red", GREY: "bright_black"}
_ORDER = (RED, AMBER, BLUE, GREY, GREEN)


def picture(now: datetime, height: int = 40) -> RenderableType:
    """Return what is drawn; it fits into `height` lines as well as it can."""
    lines = max(3, height - 34)
    title = _("waserver · %(moment)s") % {"moment": timezone.localtime(now).strftime("%Y-%m-%d %H:%M:%S")}
    return Group(Text(title, "bold"), _cards(now), _hosts(now), _sessions(now), _incidents(now), _log(lines))


def _cards(now: datetime) -> RenderableType:
    panels = []
    for card in cards(now):
        style = _HUES[card.sign.colour]
        text = Text(f"{card.value}\n{card.sign.word}\n{card.since}", style)
        panels.append(Panel(text, title=str(card.metric.label), border_style=style))
    return Columns(panels, equal=True)


def _hosts(now: datetime) -> RenderableType:
    rows = [
        f"{host} {host.sessions}/{host.capacity}, {host.rss / 1e6:.0f} MB" if host.is_live(now)
        else _("%(name)s is silent") % {"name": host}
        for host in Host.objects.filter(ended_at=None)
    ]  # fmt: skip
    words = clean(" · ".join(rows)) or _("no session host is running")
    return Text(_("Hosts: %(hosts)s") % {"hosts": words}, "default" if rows else "bold red")


def _sessions(now: datetime) -> RenderableType:
    rows = list(Session.objects.select_related("account", "host"))
    explained = [(row, explain(row, now)) for row in rows]
    counts = Counter(str(words.label) for _row, words in explained)  # what is believed, not what the row says
    title = ", ".join(f"{count} {label}" for label, count in counts.most_common()) or _("none yet")
    explained.sort(key=lambda pair: (_ORDER.index(pair[1].colour), pair[0].account.label))
    table = _table(_("Sessions: %(counts)s") % {"counts": title}, (_("account"), _("state"), _("host")),
                   _("what it means"))  # fmt: skip
    for row, words in explained[:SESSIONS]:
        state = Text(words.label, _HUES[words.colour])
        table.add_row(clean(row.account.label), state, clean(row.host.name if row.host else "–"),
                      clean(f"{words.sentence} {words.what_to_do}".strip()))  # fmt: skip
    if len(explained) > SESSIONS:
        table.add_row("", "", "", _("and %(count)d more") % {"count": len(explained) - SESSIONS})
    return table


def _incidents(now: datetime) -> RenderableType:
    rows = list(Incident.objects.unresolved().roots().order_by("severity", "-opened_at"))
    if not rows:
        return Text(_("Incidents: none open"), "green")
    title = _("Incidents: %(count)d open") % {"count": len(rows)}
    table = _table(title, (_("severity"), _("since"), _("state")), _("what"))
    for row in rows[:INCIDENTS]:
        style = "bold red" if row.severity == Severity.CRITICAL else "yellow"
        table.add_row(Text(str(row.get_severity_display()), style), duration(row.lasted(now).total_seconds()),
                      str(row.get_state_display()), clean(row.shown_title))  # fmt: skip
    return table


def _table(title: str, heads: Sequence[str], last: str) -> Table:
    """Return a table whose last column takes the room that is left."""
    table = Table(title=title, title_justify="left", expand=True, box=None)
    for head in heads:
        table.add_column(head, no_wrap=True, overflow="ellipsis", min_width=12, max_width=24)
    table.add_column(last, no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _log(lines: int) -> RenderableType:
    table = Table(title=_("Log"), title_justify="left", expand=True, box=None, show_header=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for program, line in tail(settings.LOG_DIR, lines):
        table.add_row(Text(f"{program}: {line}"))
    return table


def tail(folder: Path, lines: int) -> list[tuple[str, str]]:
    """Return the newest lines of the logs, oldest first: the program and what it said, without control characters."""
    found: list[tuple[str, str, str]] = []
    for file in sorted(folder.glob("*.log")):
        try:
            with file.open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - TAIL))
                text = log.read().decode(errors="replace")
            written = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat()[:19]
        except OSError:
            continue  # rotated away this moment
        for line in text.splitlines()[-lines:]:
            at, words = _read(line)
            found.append((at or written, file.stem, words))
    found.sort(key=lambda one: one[0])  # stable: lines of one file stay in their order
    return [(program, words) for _at, program, words in found[-lines:]]


def _read(line: str) -> tuple[str, str]:
    """Return when a line was written ("" if it does not say) and its words."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        at = line[:19].replace(" ", "T") if line[:2] == "20" else ""
        return at, clean(line)
    if not isinstance(entry, dict):
        return "", clean(line)
    at = str(entry.get("timestamp") or entry.get("time") or "")
    words = [str(entry[name]) for name in ("level", "logger", "event", "message") if entry.get(name)]
    return at[:19], clean(" ".join([at[11:19], *words]) if words else line)


def clean(text: str) -> str:
    """Return `text` without what would move the cursor or change a terminal: names and logs are written by others."""
    spaced = text.replace("\t", " ").replace("\n", " ")
    return "".join(one for one in spaced if unicodedata.category(one)[0] != "C")
