"""Quiet hours, pure: when a person may be woken."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


def quiet_until(now: datetime, begin: time, end: time, zone: ZoneInfo) -> datetime | None:
    """Return when the quiet hours that `now` lies in end (UTC); None when it lies in none.

    They run from `begin` to `end` on the clock of `zone`, over midnight when `end` is the earlier. On the night the
    clock is put back or forward they still end when that clock shows `end`.
    """
    local = now.astimezone(zone)
    clock = local.time().replace(tzinfo=None)
    if begin <= end:
        inside, day = begin <= clock < end, local.date()
    else:
        inside = clock >= begin or clock < end
        day = local.date() + timedelta(days=1) if clock >= begin else local.date()
    if not inside:
        return None
    return datetime.combine(day, end, zone).astimezone(UTC)
