from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as lazy


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = lazy("Accounts")

    def ready(self) -> None:
        """Have what is written wake the loops that wait for it."""
        from accounts import bell

        connection_created.connect(bell.install, dispatch_uid="bell")
