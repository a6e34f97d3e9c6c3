"""Monthly: how fast it was, how much it carries, and how much room is left."""

from __future__ import annotations

import shutil
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.models import Max, Sum
from django.utils.translation import gettext as _

from monitoring.histogram import merged, quantile
from monitoring.models import HealthSample, RequestCount, Resolution
from monitoring.models.request_count import Span
from sessions_app.models import Host, Session
from waserver.maintenance.outcome import Outcome

_MONTH = timedelta(days=30)
#: p95 of a route above this many seconds is named.
_SLOW = 1.0
#: Above this share of the capacity of the hosts it is time to add one.
_FULL = 0.8
_SHOWN = 10


def performance(now: datetime, dry_run: bool) -> Outcome:
    """Requests, errors and p95 by route; the means of what is measured."""
    by_route: dict[str, list[tuple[int, int, dict[str, int]]]] = defaultdict(list)
    counted = RequestCount.objects.filter(span=Span.HOUR, at__gte=now - _MONTH)
    for route, count, failed, buckets in counted.values_list("route", "count", "errors", "buckets").iterator():
        by_route[route].append((count, failed, buckets))
    rows = []
    for route, found in by_route.items():
        p95 = quantile(merged(buckets for _count, _failed, buckets in found), 0.95) or 0.0
        rows.append((p95, route, sum(count for count, _f, _b in found), sum(failed for _c, failed, _b in found)))
    rows.sort(reverse=True)
    text = _("%(p95)7.3f s p95  %(count)8d requests  %(failed)6d errors  %(route)s")
    lines = [text % {"p95": p95, "count": count, "failed": failed, "route": route} for p95, route, count, failed in
             rows[:_SHOWN]]  # fmt: skip
    daily = HealthSample.objects.filter(resolution=Resolution.DAY, at__gte=now - _MONTH, subject="")
    for metric in sorted(set(daily.values_list("metric", flat=True))):
        values = list(daily.filter(metric=metric).values_list("value", "maximum"))
        mean, most = sum(value for value, _max in values) / len(values), max(most for _value, most in values)
        text = _("%(metric)s: mean %(mean).2f, highest %(most).2f, over %(days)d days")
        lines.append(text % {"metric": metric, "mean": mean, "most": most, "days": len(values)})
    text = _("%(route)s takes %(p95).1f s at p95: look at its slow queries below.")
    slow = [text % {"route": route, "p95": p95} for p95, route, _c, _f in rows if p95 > _SLOW]
    return Outcome(lines or [_("Nothing was counted yet.")], slow, {"routes": len(rows)})


def capacity(now: datetime, dry_run: bool) -> Outcome:
    """Sessions against what the hosts carry, the sizes of the database and of the device stores, the disk."""
    hosts = Host.objects.live(now).aggregate(capacity=Sum("capacity"), rss=Sum("rss"), fds=Max("fds"))
    room, owned = hosts["capacity"] or 0, Session.objects.exclude(store="").count()
    stores = sum(file.stat().st_size for file in settings.DEVICES_DIR.glob("*.sqlite3*") if file.is_file())
    disk, memory = shutil.disk_usage(settings.VAR_DIR), (hosts["rss"] or 0) / 1e6
    rows = _("%(count)10d rows  %(table)s")
    lines = [
        _("%(owned)d paired sessions, room for %(room)d on the hosts that run, which take %(memory).0f MB") % {
            "owned": owned, "room": room, "memory": memory,
        },
        _("Database %(database).1f MB, device stores %(stores).1f MB, disk %(free).1f GB free") % {
            "database": _database_size() / 1e6, "stores": stores / 1e6, "free": disk.free / 1e9,
        },
        *(rows % {"count": count, "table": table} for count, table in _largest_tables()),
    ]  # fmt: skip
    troubles = []
    if room and owned > _FULL * room:
        text = _("The hosts are full to %(percent).0f %%: raise HOSTS, or HOST_CAPACITY where there is memory.")
        troubles.append(text % {"percent": 100 * owned / room})
    return Outcome(lines, troubles, {"sessions": owned, "capacity": room})


def _database_size() -> int:
    if connection.vendor == "sqlite":
        file = Path(connection.settings_dict["NAME"])
        return sum(path.stat().st_size for path in (file, Path(f"{file}-wal")) if path.exists())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        return int(cursor.fetchone()[0] or 0)


def _largest_tables() -> list[tuple[int, str]]:
    """Return our largest tables. Counting is slow on a large one, and this is once a month."""
    ours = [apps.get_app_config(label) for label in ("accounts", "sessions_app", "messaging", "monitoring", "django_q")]
    models = [model for app in ours for model in app.get_models() if model._meta.managed and not model._meta.proxy]
    counted = [(model._default_manager.count(), model._meta.db_table) for model in models]
    return sorted((one for one in counted if one[0]), reverse=True)[:_SHOWN]
