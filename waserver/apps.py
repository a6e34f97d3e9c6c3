import sys
from datetime import timedelta

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as lazy


class WaserverConfig(AppConfig):
    name = "waserver"
    verbose_name = lazy("Server")

    def ready(self) -> None:
        from accounts import garbage, roles
        from sessions_app.jobs import Planned, plan
        from waserver import audit, checks, orphans, pages, private  # noqa: F401 - register their checks

        if sys.argv[1:2] == ["qcluster"]:
            orphans.end_with_cluster()
            garbage.settle_before_forks()
        pages.discover()
        audit.register()
        # The last app with models: by then every permission is there.
        post_migrate.connect(roles.register, sender=apps.get_app_config("monitoring"), dispatch_uid="roles")

        plan(
            Planned("maintenance_daily", "waserver.maintenance.scheduled.daily", "45 6 * * *", timedelta(hours=26),
                    lazy("status, report and review of errors, written into the log")),
            Planned("maintenance_weekly", "waserver.maintenance.scheduled.weekly", "20 4 * * 0", timedelta(days=8),
                    lazy("deletes what was in quarantine for 7 days, archives old logs")),
            Planned("maintenance_monthly", "waserver.maintenance.scheduled.monthly", "40 5 1 * *", timedelta(days=32),
                    lazy("performance, capacity, slow queries, dependencies, written into the log")),
            Planned("preventive_restart", "waserver.maintenance.weekly.restart_in_window", "* * * * *",
                    timedelta(minutes=5), lazy("restarts the hosts one after the other in MAINTENANCE_WINDOW")),
            Planned("backup", "waserver.backup.daily.backup", "15 3 * * *", timedelta(hours=26),
                    lazy("writes an encrypted backup of everything, reads it back, deletes the oldest")),
        )  # fmt: skip
