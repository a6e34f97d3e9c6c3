"""The API under load: how many requests per second, how long each takes, and the CPU time it costs the web process.

    python bench/api.py --seconds 20 --callers 8 [--database-url mysql://root@127.0.0.1:3306/ --redis-url ...]

Four kinds of reads, and sending for accounts whose rows say that they are connected (no host runs: this is the API
alone), first each kind by itself, then all in turn. Callers are a process of their own and ask again at once. Prints,
for each kind and for `mixed`, requests `per_s`, `p50_ms`, `p95_ms`, `p99_ms` and `cpu_ms` of the web process per
request; of the mixed load also the times of each kind within it. `errors` are answers with another status than
expected and requests without one, `lost` messages that were accepted and are not in the database: it exits with 1 when
there are any.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections import defaultdict
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.callers import Letter, Request, at_once, elsewhere, percentile, program
from bench.stage import Stage, arguments, cpu_seconds

_FIRST = 6_281_200_100_000
_BATCH = 1000
#: People each account writes to.
_PEOPLE = 20
_SEND = "send"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--seconds", type=float, default=20, help="for each kind of request, and for the mixed load")
    options.add_argument("--callers", type=int, default=8, help="requests at once")
    options.add_argument("--accounts", type=int, default=50, help="accounts, all said to be connected")
    options.add_argument("--messages", type=int, default=20_000, help="messages that are there already")
    chosen = options.parse_args()
    with Stage(chosen, API_RATE="100000000", API_ACCOUNT_RATE="100000000") as stage:
        figures = measure(stage, chosen)
        stage.tell(seconds=chosen.seconds, callers=chosen.callers, accounts=chosen.accounts, messages=chosen.messages,
                   database=stage.database, redis=bool(chosen.redis_url), **figures)  # fmt: skip
    if figures["errors"] or figures["lost"]:
        sys.exit(f"{figures['errors']} errors: {figures['wrong']}; {figures['lost']} messages were not stored")


def measure(stage: Stage, chosen: Any) -> dict[str, Any]:
    """Return the figures."""
    from accounts.models import ApiKey, Scope
    from messaging.models import Message

    stage.progress("filling the database")
    accounts = fill(chosen.accounts, chosen.messages)
    _key, secret = ApiKey.make("bench", list(Scope))
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True)[:_BATCH]
    reads = {
        "list_messages": [f"/api/v1/messages?account_id={pk}" for pk in accounts],
        "get_message": [f"/api/v1/messages/{pk}" for pk in newest],
        "list_accounts": ["/api/v1/accounts"], "health": ["/api/v1/health"],
    }  # fmt: skip
    installation = stage.installation()
    address = installation.start_web()
    web = installation.programs["web"].pid
    figures: dict[str, Any] = {}
    wrong: list[str] = []
    accepted = 0
    for name, kinds in {**{kind: [kind] for kind in (*reads, _SEND)}, "mixed": [*reads, _SEND]}.items():
        stage.progress(name)
        plan = {kind: reads.get(kind, []) for kind in kinds}
        with elsewhere(call, address, secret, name, plan, accounts, chosen.callers, chosen.seconds) as calling:
            before = cpu_seconds([web])
            took, bad, seconds = calling.result()
        spent = cpu_seconds([web]) - before
        wrong += bad
        accepted += len(took.get(_SEND, []))
        everything = [one for each in took.values() for one in each]
        figures[name] = {"per_s": round(len(everything) / seconds, 1), **times(everything),
                         "cpu_ms": round(spent / max(1, len(everything)) * 1000, 2)}  # fmt: skip
        if len(kinds) > 1:
            figures[name]["kinds"] = {kind: times(took[kind]) for kind in kinds}
    lost = accepted - Message.objects.filter(text__startswith="bench ").count()
    return {**figures, "accepted": accepted, "lost": lost, "errors": len(wrong), "wrong": sorted(set(wrong))[:5]}


def call(address: str, key: str, name: str, plan: dict[str, list[str]], accounts: list[int], callers: int,
         seconds: float) -> tuple[dict[str, list[float]], list[str], float]:  # fmt: skip
    """Ask for these kinds in turn until the time is over; return the seconds of each request, what went wrong, and
    how long it all took."""
    took: dict[str, list[float]] = defaultdict(list)
    wrong: list[str] = []
    until = time.monotonic() + seconds

    def request(kind: str, caller: int, n: int) -> Request:
        if kind != _SEND:
            return Request(kind, plan[kind][n % len(plan[kind])])
        to = f"+{_FIRST + n % _PEOPLE}"
        return Letter(accounts[n % len(accounts)], to, f"bench {name} {caller} {n}").request

    def one(number: int) -> None:
        caller = program(address, key)
        kinds = list(plan)
        for n in count():
            if time.monotonic() >= until:
                break
            asked = request(kinds[(number + n) % len(kinds)], number, n)
            try:
                status, passed = caller.ask(asked)
            except (OSError, http.client.HTTPException) as error:
                wrong.append(f"{asked.kind}: {error!r}")
                continue
            if status != asked.expected:
                wrong.append(f"{asked.kind}: {status}")
            else:
                took[asked.kind].append(passed)
        caller.close()

    began, ended = at_once(callers, one)
    return dict(took), wrong, ended - began


def times(took: list[float]) -> dict[str, float | None]:
    """Return how long requests took."""
    return {f"p{percent}_ms": percentile(took, percent) for percent in (50, 95, 99)}


def fill(accounts: int, messages: int) -> list[int]:
    """Make connected accounts with a history, and readings of health; return the accounts' ids."""
    from django.utils import timezone

    from accounts.models import Account
    from messaging.models import Chat, Message
    from monitoring.health import health
    from sessions_app.models import Host, Session

    now = timezone.now()
    later = now + timedelta(days=1)
    host = Host.objects.create(name="host-1", heartbeat_at=later, started_at=now)
    made = Account.objects.bulk_create(Account(label=f"Account {n}", phone=str(_FIRST + 1000 + n))
                                       for n in range(accounts))  # fmt: skip
    Session.objects.bulk_create(
        Session(account=account, state="connected", host=host, store="x", connected_at=now, lease_expires_at=later)
        for account in made
    )
    chats = Chat.objects.bulk_create(
        (Chat(account=account, jid=f"{_FIRST + n}@s.whatsapp.net", phone=str(_FIRST + n))
         for account in made for n in range(_PEOPLE)), batch_size=_BATCH,
    )  # fmt: skip
    Message.objects.bulk_create(
        (Message(account_id=chat.account_id, chat=chat, direction="out" if n % 2 else "in", kind="text",
                 content={"text": f"message {n}"}, text=f"message {n}", state="delivered" if n % 2 else "received",
                 whatsapp_id=f"3EB0{n:016X}", sent_at=now - timedelta(seconds=messages - n))
         for n, chat in ((n, chats[n * 7 % len(chats)]) for n in range(messages))), batch_size=_BATCH,
    )  # fmt: skip
    health(now)
    return [account.pk for account in made]


if __name__ == "__main__":
    main()
