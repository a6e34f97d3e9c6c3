from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = _("Health")

    def ready(self) -> None:
        from monitoring.models import threshold

        post_migrate.connect(threshold.register, sender=self, dispatch_uid="thresholds")
