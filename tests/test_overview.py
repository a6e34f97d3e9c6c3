"""What stands above the account list: causes, a stopped cluster, missing hosts, and the progress of a start of many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from sessions_app import jobs, overview
from sessions_app.models import FleetCause, Host, Session

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def sessions(count: int, **fields: Any) -> list[int]:
    known = Account.objects.count()
    ids = [Account.objects.create(label=str(known + n)).session.pk for n in range(count)]
    Session.objects.filter(pk__in=ids).update(**fields)
    return ids


@pytest.fixture
def healthy() -> None:
    Host.objects.create(name="host-1", heartbeat_at=timezone.now())
    jobs.run("live_back")


def words() -> str:
    return " ".join(notice.sentence for notice in overview.notices(timezone.now()))


def test_nothing_is_said_while_all_is_well(healthy: None) -> None:
    sessions(3, state="connected")
    assert overview.context(timezone.now()) == {"notices": [], "progress": None}


def test_a_stopped_cluster_is_said_after_ninety_seconds(healthy: None) -> None:
    assert "live_back last ran" not in words()
    assert [n.sentence for n in overview.notices(timezone.now() + 91 * SECOND) if "live_back last ran" in n.sentence]


def test_a_missing_host_is_said_only_when_something_should_be_connected(healthy: None) -> None:
    Host.objects.update(ended_at=timezone.now())
    assert not words()
    sessions(1, state="waiting")
    assert "No session host is running" in words()


def test_a_fleet_cause_names_its_trial(healthy: None) -> None:
    ids = sessions(3, state="waiting", code=503, attempts=1)
    FleetCause.objects.create(code=503, open_code=503, began_at=timezone.now(), affected=3, trial_id=ids[0])
    assert "3 sessions fail alike (503). Only “0” is tried" in words()


def test_the_progress_counts_what_is_starting_and_estimates_the_rest(healthy: None) -> None:
    now = timezone.now()
    sessions(37, state="connected", connected_at=now - 10 * SECOND)
    sessions(10, state="stopped")
    sessions(3, state="waiting", retry_at=now + 60 * SECOND)
    progress = overview.progress(now)
    assert progress is not None
    assert (progress.connected, progress.wanted, progress.waiting, progress.left) == (37, 50, 3, 3)
    assert progress.sentence == "37 of 50 connected, about 3 s left, 3 wait for their next attempt"


def test_nobody_guesses_from_too_little() -> None:
    assert overview.estimate(10, 2, 5 * SECOND) is None
    assert overview.estimate(10, 5, 5 * SECOND) == 10


def test_the_page_shows_it_and_fetches_it_again(healthy: None, client: Client) -> None:
    sessions(2, state="connected", connected_at=timezone.now())
    sessions(2, state="stopped")
    client.force_login(User.objects.create_superuser("ana"))
    page = client.get(reverse("admin:accounts_account_changelist")).content.decode()
    assert "2 of 4 connected" in page
    assert f'data-url="{reverse("admin:account_overview")}"' in page
    with CaptureQueriesContext(connection) as seen:
        fragment = client.get(reverse("admin:account_overview")).content.decode()
    assert '<progress id="wa-progress" max="4" value="2">' in fragment
    assert len(seen) <= 10


def test_who_may_not_see_accounts_sees_no_overview(client: Client) -> None:
    client.force_login(User.objects.create_user("ben", is_staff=True))
    assert client.get(reverse("admin:account_overview")).status_code == 403


def test_the_index_shows_it_too_to_those_who_may_see_accounts(client: Client) -> None:
    sessions(1, state="waiting")
    client.force_login(User.objects.create_superuser("ana"))
    assert "No session host is running" in client.get(reverse("admin:index")).content.decode()
    client.force_login(User.objects.create_user("ben", is_staff=True))
    assert "No session host is running" not in client.get(reverse("admin:index")).content.decode()
