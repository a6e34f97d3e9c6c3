from datetime import timedelta

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class WaserverConfig(AppConfig):
    name = "waserver"
    verbose_name = "Server"

    def ready(self) -> None:
        from accounts import roles
        from sessions_app.jobs import Planned, plan
        from waserver import audit, private  # noqa: F401 - registers its check

        audit.register()
        # The last app with models: by then every permission is there.
        post_migrate.connect(roles.register, sender=apps.get_app_config("monitoring"), dispatch_uid="roles")

        plan(
            Planned("backup", "waserver.backup.daily.backup", "15 3 * * *", timedelta(hours=26),
                    "writes an encrypted backup of everything, reads it back, deletes the oldest"),
        )  # fmt: skip
