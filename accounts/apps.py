from django.apps import AppConfig
from django.utils.translation import gettext_lazy as lazy


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = lazy("Accounts")
