"""What an incident says is in the language of whoever looks at it, whichever process or person wrote it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django.utils.translation import gettext_lazy, override

from monitoring import causes, health
from monitoring.evaluation import Limits
from monitoring.metrics import METRICS, Kind
from monitoring.models import Incident, IncidentEntry, Severity
from monitoring.wording import Words, filled, in_each_language

pytestmark = pytest.mark.django_db

ACCOUNT, SYSTEM = Kind.ACCOUNT, Kind.SYSTEM
BANNED = "Kasir is banned by WhatsApp for a time"


def opened(metric: str, kind: str, subject: str, title: Words) -> Incident:
    """Return an incident as the cluster opens it, in English."""
    evidence = {"value": 96.2, "warning": 80, "critical": 95}
    return Incident.open(metric, kind, "7" if subject else "", subject, title, Severity.WARNING, timezone.now(),
                         evidence)[0]  # fmt: skip


def banned() -> Incident:
    return opened("banned", ACCOUNT, "Kasir", causes.Fact("banned", "7", "Kasir").title)


def newest(incident: Incident) -> IncidentEntry:
    return incident.entries.order_by("-id")[0]


def test_words_are_said_later_in_each_language() -> None:
    text = filled(gettext_lazy("to %(name)s"), {"name": "Sari"})
    assert in_each_language(text) == {"en": "to Sari", "id": "kepada Sari"}
    assert in_each_language("Sari wrote this") == {}


def test_titles_are_told_in_either_language() -> None:
    memory = opened("memory_usage", SYSTEM, "", health._title(METRICS["memory_usage"], "", 84.4, 80))
    errors = opened("error_rate", ACCOUNT, "Kasir", health._title(METRICS["error_rate"], "Kasir", 7, 5))
    row = banned()
    assert [one.shown_title for one in (memory, row)] == [memory.title, row.title] == [
        "Memory: 84 %, limit 80 %", BANNED]  # fmt: skip
    with override("id"):
        assert memory.shown_title == "Memori: 84 %, batas 80 %"
        assert errors.shown_title.startswith("Tingkat kesalahan dari Kasir: 7.0 %")
        assert row.shown_title != row.title
        assert "Kasir" in row.shown_title
    memory.escalate(timezone.now(), health._title(METRICS["memory_usage"], "", 97, 95))
    assert Incident.objects.get(pk=memory.pk).shown_title == "Memory: 97 %, limit 95 %"
    with override("id"):
        assert [entry.shown_text for entry in memory.entries.order_by("id")] == [
            "Memori: 84 %, batas 80 %", "Memori: 97 %, batas 95 %"]  # fmt: skip


def test_what_an_earlier_version_or_a_person_wrote_is_shown_as_it_is(django_user_model: type[User]) -> None:
    row = opened("memory_usage", SYSTEM, "", "Memory: 84 %, limit 80 %")
    row.add_note("It was the backup.", django_user_model.objects.create(username="sari"))
    with override("id"):
        assert row.shown_title == "Memory: 84 %, limit 80 %"
        assert newest(row).shown_text == "It was the backup."


def test_a_cause_common_to_many_says_which_in_either_language() -> None:
    assert in_each_language(causes._label(0)) == {
        "en": "no code: the network, most likely", "id": "tanpa kode: kemungkinan besar jaringan"}  # fmt: skip
    title = in_each_language(causes.Fact("fleet", "0", causes._label(0)).title)
    assert "the network" in title["en"]
    assert "jaringan" in title["id"]


def test_what_happened_is_told_in_either_language(django_user_model: type[User]) -> None:
    sari = django_user_model.objects.create(username="sari")
    row, other = banned(), opened("error_rate", SYSTEM, "", health._title(METRICS["error_rate"], "", 7, 5))
    row.assign(sari, sari)
    assigned = newest(row)
    row.assign(None, sari)
    unassigned = newest(row)
    row.fold_into(other, timezone.now())
    folded = newest(row)
    row.end(timezone.now(), health._ended(METRICS["memory_usage"], Limits(80, 95, above=True), 42))
    ended = newest(row)
    assert [entry.shown_text for entry in (assigned, unassigned, folded, ended)] == [
        "to sari", "to nobody", "Error rate: 7.0 %, limit 5 %", "Three clear readings. Now 42 %."]  # fmt: skip
    with override("id"):
        assert [entry.shown_text for entry in (assigned, unassigned, folded, ended)] == [
            "kepada sari", "kepada tidak seorang pun", "Tingkat kesalahan: 7.0 %, batas 5 %",
            "Tiga pembacaan bersih. Sekarang 42 %."]  # fmt: skip


def test_the_pages_follow_the_browser(admin_client: Client) -> None:
    row = banned()
    with override("id"):
        ours = row.shown_title
    for page in ("/admin/monitoring/incident/", f"/admin/monitoring/incident/{row.pk}/change/", "/admin/"):
        found = admin_client.get(page, HTTP_ACCEPT_LANGUAGE="id").content.decode()
        assert ours in found, page
        assert row.title not in found, page
