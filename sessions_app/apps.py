from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as lazy


class SessionsConfig(AppConfig):
    name = "sessions_app"
    verbose_name = lazy("Sessions")

    def ready(self) -> None:
        from sessions_app import jobs, signals  # noqa: F401 - connects the receivers
        from sessions_app.models import retry_rule

        post_migrate.connect(jobs.register, sender=self, dispatch_uid="jobs")
        post_migrate.connect(retry_rule.register, sender=self, dispatch_uid="retry rules")
