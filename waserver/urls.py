"""Every address of the web process."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from waserver.api import api, nothing_here

admin.autodiscover()  # a cluster that writes a link into an alert learns of the pages only now
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/health/", include("monitoring.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("api/<path:rest>", nothing_here),
]
