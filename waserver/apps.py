from django.apps import AppConfig


class WaserverConfig(AppConfig):
    name = "waserver"
    verbose_name = "Server"
