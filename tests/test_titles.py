"""Titles of incidents: in the language of whoever looks, whichever process opened them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.translation import override

from monitoring import titles
from monitoring.metrics import METRICS, Kind
from monitoring.models import Incident, Severity

pytestmark = pytest.mark.django_db

ACCOUNT, SYSTEM = Kind.ACCOUNT, Kind.SYSTEM


def opened(metric: str, kind: str, subject: str, title: str, **fields: Any) -> Incident:
    """Return an incident as the cluster opens it, in English."""
    evidence = {"value": 96.2, "warning": 80, "critical": 95}
    return Incident.open(metric, kind, "7" if subject else "", subject, title, Severity.WARNING, timezone.now(),
                         evidence, **fields)[0]  # fmt: skip


def test_a_metric_and_a_cause_are_told_in_either_language() -> None:
    memory = opened("memory_usage", SYSTEM, "", titles.of_metric(METRICS["memory_usage"], "", 84.4, 80), told=84.4)
    errors = opened("error_rate", ACCOUNT, "Kasir", titles.of_metric(METRICS["error_rate"], "Kasir", 7, 5), told=7.0)
    banned = opened("banned", ACCOUNT, "Kasir", "Kasir is banned by WhatsApp for a time")
    assert [titles.shown(row) for row in (memory, banned)] == [memory.title, banned.title]
    with override("id"):
        assert titles.shown(memory) == "Memori: 84 %, batas 80 %"
        assert titles.shown(errors).startswith("Tingkat kesalahan dari Kasir: 7.0 %")
        assert titles.shown(banned) != banned.title
        assert "Kasir" in titles.shown(banned)
    memory.escalate(timezone.now(), "Memory: 97 %, limit 95 %", 97.0)
    assert titles.shown(memory) == memory.title


def test_what_an_earlier_version_wrote_is_shown_as_it_is() -> None:
    assert titles.shown(opened("memory_usage", SYSTEM, "", "Memory: 84 %, limit 80 %")) == "Memory: 84 %, limit 80 %"
    assert titles.shown(opened("gone_since", SYSTEM, "", "Something")) == "Something"


def test_the_pages_follow_the_browser(admin_client: Client) -> None:
    row = opened("banned", ACCOUNT, "Kasir", "Kasir is banned by WhatsApp for a time")
    with override("id"):
        ours = titles.shown(row)
    for page in ("/admin/monitoring/incident/", f"/admin/monitoring/incident/{row.pk}/change/", "/admin/"):
        found = admin_client.get(page, HTTP_ACCEPT_LANGUAGE="id").content.decode()
        assert ours in found, page
        assert row.title not in found, page
