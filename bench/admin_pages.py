"""The admin's pages at the server: milliseconds and queries with many accounts and a long history."""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stage import Stage, arguments

_BATCH = 5000


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--accounts", type=int, default=1000, help="accounts")
    options.add_argument("--events", type=int, default=200_000, help="session events")
    options.add_argument("--rounds", type=int, default=15, help="requests per page; the median counts")
    chosen = options.parse_args()
    with Stage(chosen, ALLOWED_HOSTS="testserver") as stage:
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.db import connection
        from django.test import Client
        from django.test.utils import CaptureQueriesContext
        from django.urls import reverse

        call_command("collectstatic", verbosity=0, interactive=False)
        stage.progress("filling the database")
        fill(chosen.accounts, chosen.events)
        client = Client()
        client.force_login(User.objects.create_superuser("bench", password="for benches only"))
        pages = {
            "index": reverse("admin:index"),
            "accounts": reverse("admin:accounts_account_changelist"),
            "account": reverse("admin:accounts_account_change", args=[chosen.accounts // 2]),
            "events": reverse("admin:sessions_app_sessionevent_changelist"),
        }
        figures: dict[str, dict[str, float]] = {}
        for name, address in pages.items():
            stage.progress(address)
            client.get(address)
            took = []
            for _ in range(chosen.rounds):
                began = time.perf_counter()
                assert client.get(address).status_code == 200
                took.append((time.perf_counter() - began) * 1000)
            with CaptureQueriesContext(connection) as queries:
                client.get(address)
            figures[f"page_{name}"] = {"median_ms": round(statistics.median(took), 1), "worst_ms": round(max(took), 1),
                             "queries": len(queries)}  # fmt: skip
        stage.tell(accounts=chosen.accounts, events=chosen.events, database=stage.database, **figures)


def fill(accounts: int, events: int) -> None:
    """Make accounts with sessions in every state, and a history."""
    from django.utils import timezone

    from accounts.models import Account
    from sessions_app.models import Session, SessionEvent
    from sessions_app.states import State

    now, states = timezone.now(), list(State)
    made = Account.objects.bulk_create(Account(label=f"Account {n}", phone=str(6281200000000 + n))
                                       for n in range(accounts))  # fmt: skip
    sessions = Session.objects.bulk_create(
        Session(account=account, state=states[n % len(states)], state_changed_at=now) for n, account in enumerate(made)
    )
    for start in range(0, events, _BATCH):
        SessionEvent.objects.bulk_create(
            SessionEvent(session=sessions[n % accounts], at=now - timedelta(seconds=events - n), kind="connected",
                         before="connecting", after="connected", host_name="host-1")
            for n in range(start, min(start + _BATCH, events))
        )  # fmt: skip


if __name__ == "__main__":
    main()
