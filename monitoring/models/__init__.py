"""Health as rows: thresholds, samples, request counts, incidents."""

from monitoring.models.alert import AlertChannel, AlertDelivery, Change, DeliveryState
from monitoring.models.entry import EntryKind, IncidentEntry
from monitoring.models.forecast import Forecast, ForecastRun
from monitoring.models.incident import Incident, IncidentState, Severity
from monitoring.models.program import Program
from monitoring.models.request_count import RequestCount
from monitoring.models.sample import HealthSample, Resolution
from monitoring.models.slow_query import SlowQuery
from monitoring.models.threshold import Threshold

__all__ = [
    "AlertChannel", "AlertDelivery", "Change", "DeliveryState", "EntryKind", "Forecast", "ForecastRun", "HealthSample",
    "Incident", "IncidentEntry", "IncidentState", "Program", "RequestCount", "Resolution", "Severity", "SlowQuery",
    "Threshold",
]  # fmt: skip
