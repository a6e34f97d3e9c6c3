"""How long one tick of live_back takes, and in how many queries, with many accounts of which 1 % are due.

    python -m bench.live_back --accounts 10000 [--database-url mysql://root@127.0.0.1:3306/]

Prints {"accounts", "seconds" (the slowest tick), "queries", "due", "database"}. Claimed: 0.3 s and 10 queries.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stage import Stage, arguments

_TICKS = 5


def main() -> None:
    """Fill the tables, tick, tell."""
    parser = arguments("Time one tick of live_back.")
    parser.add_argument("--accounts", type=int, default=10_000, help="accounts; 1 %% of them are due at each tick")
    chosen = parser.parse_args()
    with Stage(chosen) as stage:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from django.utils import timezone

        from accounts.models import Account
        from sessions_app.live_back import live_back
        from sessions_app.models import Host, Session

        now, due = timezone.now(), max(1, chosen.accounts // 100)
        hosts = [Host.objects.create(name=f"host-{n}", heartbeat_at=now) for n in range(1 + chosen.accounts // 50)]
        accounts = Account.objects.bulk_create(
            (Account(label=f"Account {n}") for n in range(chosen.accounts)), batch_size=500)  # fmt: skip
        Session.objects.bulk_create((
            Session(account=account, state="connected", host=hosts[n // 50], store="x", connected_at=now,
                    lease_expires_at=now + timedelta(hours=1))
            for n, account in enumerate(accounts)
        ), batch_size=500)  # fmt: skip
        stage.progress(f"{chosen.accounts} accounts, {due} of them due at each of {_TICKS} ticks")
        took, queries, marked = [], [], []
        for tick in range(_TICKS):
            ids = [account.pk for account in accounts[tick * due : (tick + 1) * due]]
            Session.objects.filter(account__in=ids).update(state="waiting", host=None, retry_at=now, code=503)
            with CaptureQueriesContext(connection) as seen:
                began = time.perf_counter()
                counts = live_back(timezone.now())
                took.append(time.perf_counter() - began)
            queries.append(len(seen))
            marked.append(counts["due"])
        stage.tell(accounts=chosen.accounts, seconds=round(max(took), 3), queries=max(queries), due=min(marked),
                   database=stage.database)  # fmt: skip
        if min(marked) != due:
            sys.exit(f"{marked} were marked due instead of {due} each time")


if __name__ == "__main__":
    main()
