from datetime import timedelta

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = _("Messages")

    def ready(self) -> None:
        from messaging import checks  # noqa: F401 - registers them
        from sessions_app.jobs import Planned, plan

        plan(
            Planned("tidy_messages", "messaging.tidying.tidy", "3-59/10 * * * *", timedelta(minutes=25),
                    "forgets messages, files and deliveries past their time of retention"),
        )  # fmt: skip
