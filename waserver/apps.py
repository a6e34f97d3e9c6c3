from datetime import timedelta

from django.apps import AppConfig


class WaserverConfig(AppConfig):
    name = "waserver"
    verbose_name = "Server"

    def ready(self) -> None:
        from sessions_app.jobs import Planned, plan

        plan(
            Planned("backup", "waserver.backup.daily.backup", "15 3 * * *", timedelta(hours=26),
                    "writes an encrypted backup of everything, reads it back, deletes the oldest"),
        )  # fmt: skip
