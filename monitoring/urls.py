"""Pages of health that belong to no model."""

from django.contrib import admin
from django.urls import path

from monitoring.admin.forecast import forecast_view
from monitoring.admin.report import report_view

app_name = "health"
urlpatterns = [
    path("forecast/", admin.site.admin_view(forecast_view), name="forecast"),
    path("report/", admin.site.admin_view(report_view), name="report"),
]
