"""An incident's title in the language of whoever looks at it; its row keeps the one of the process that opened it."""

from __future__ import annotations

from django.utils.translation import gettext as _

from monitoring.causes import CAUSES
from monitoring.metrics import METRICS, Metric
from monitoring.models import Incident


def of_metric(metric: Metric, subject: str, value: float | None, limit: float) -> str:
    """Return what it is: which metric, how much, beyond which limit, of whom ("": of the whole installation)."""
    values = {"metric": metric.label, "value": metric.shown(value), "limit": metric.limit(limit), "subject": subject}
    if subject:
        return _("%(metric)s of %(subject)s: %(value)s, limit %(limit)s") % values
    return _("%(metric)s: %(value)s, limit %(limit)s") % values


def shown(incident: Incident) -> str:
    """Return its title now; the row's own where what it was made of is not known any more."""
    if incident.metric in CAUSES:
        return str(CAUSES[incident.metric].title) % {"subject": incident.subject_label}
    limit = incident.evidence.get(incident.severity)
    if incident.metric not in METRICS or incident.told is None or limit is None:
        return incident.title
    return of_metric(METRICS[incident.metric], incident.subject_label, incident.told, limit)
