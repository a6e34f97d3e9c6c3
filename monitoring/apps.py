from datetime import timedelta

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = _("Health")

    def ready(self) -> None:
        from monitoring.counting import watch_statements
        from monitoring.models import threshold
        from sessions_app.jobs import Planned, plan

        connection_created.connect(watch_statements, dispatch_uid="slow queries")
        post_migrate.connect(threshold.register, sender=self, dispatch_uid="thresholds")
        plan(
            Planned("health", "monitoring.health.health", "* * * * * 15,45", timedelta(seconds=90),
                    _("measures, draws the cards, opens and resolves incidents")),
            Planned("health_rollup", "monitoring.rollup.rollup", "7 * * * *", timedelta(hours=2, minutes=10),
                    _("turns readings into hours and days, forgets what is old")),
            Planned("alerts", "monitoring.alerts.job.alerts", "* * * * * */30", timedelta(minutes=2),
                    _("has alerts that are due delivered by a process of its own")),
            Planned("forecast", "monitoring.forecasting.job.forecast", "11 * * * *", timedelta(hours=2, minutes=10),
                    _("has the risk of each session forecast by a process of its own")),
        )  # fmt: skip
