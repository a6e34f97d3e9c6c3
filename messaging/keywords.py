"""Whether a keyword fits a message, and whether a message may be answered by a rule at all: pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta

from messaging.kinds import Kind

#: An older message is not answered: it arrived with a backlog, after the person has stopped waiting.
STALE = timedelta(minutes=10)


def plain(text: str) -> str:
    """Return a text as keywords are compared: one form of Unicode, case and spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fits(keyword: str, match: str, text: str) -> bool:
    """Return whether a text meets a rule; `match` is exact, word or begins."""
    wanted, words = plain(keyword), plain(text)
    if not wanted:
        return False
    if match == "exact":
        return words.strip(".!?… ") == wanted
    if match == "begins":
        return re.match(rf"{re.escape(wanted)}(?!\w)", words) is not None
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", words) is not None


def answerable(kind: str, *, group: bool, from_our_own: bool, sent_at: datetime, now: datetime) -> bool:
    """Return whether any rule may answer: a fresh text from a person that is not one of our own accounts."""
    return kind == Kind.TEXT and not group and not from_our_own and now - sent_at < STALE
