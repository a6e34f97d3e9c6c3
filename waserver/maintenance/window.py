"""The maintenance window: pure. "sun 03:30-05:30", in the time zone of the installation; "" is never."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from django.utils.translation import gettext as _

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(\w{3}) (\d\d?):(\d\d)-(\d\d?):(\d\d)")


@dataclass(frozen=True)
class Window:
    """A stretch of time once a week. It may reach into the next day, and lasts at least 10 minutes."""

    day: int  # Monday is 0
    begin: time
    length: timedelta

    def opened_at(self, now: datetime) -> datetime | None:
        """Return when the window that `now` (local) lies in opened, or None outside of it."""
        for weeks in (0, 1):
            date = now.date() - timedelta(days=(now.weekday() - self.day) % 7 + 7 * weeks)
            opened = datetime.combine(date, self.begin, now.tzinfo)
            if opened <= now < opened + self.length:
                return opened
        return None


def parse(text: str) -> Window | None:
    """Return the window, or None for "". Raises ValueError with a sentence."""
    if not text.strip():
        return None
    match = _FORM.fullmatch(text.strip().lower())
    try:
        if match is None or match[1] not in DAYS:
            raise ValueError
        begin, end = time(int(match[2]), int(match[3])), time(int(match[4]), int(match[5]))
        length = timedelta(hours=end.hour - begin.hour, minutes=end.minute - begin.minute)
        length += timedelta(days=1) if length <= timedelta() else timedelta()
        if length < timedelta(minutes=10):
            raise ValueError
    except ValueError:
        sentence = _(
            "MAINTENANCE_WINDOW=%(text)s is no window of 10 minutes or more: write it like “sun 03:30-05:30”, or leave "
            "it empty for none."
        )
        raise ValueError(sentence % {"text": text}) from None
    return Window(DAYS.index(match[1]), begin, length)
