"""WebSocket fan-out: many browsers on the account list, one session changes, how long until each has been told."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.callers import log_in
from bench.stage import Stage, arguments, memory_mb

_PAGE = 25  # sessions on a page of the list


async def watch(address: str, cookie: str, ids: list[int], begin: asyncio.Event,
                told: asyncio.Queue[tuple[int, float]]) -> None:  # fmt: skip
    """Be one browser: say when which version was told."""
    from websockets.asyncio.client import connect
    from websockets.typing import Origin

    headers = {"Cookie": f"sessionid={cookie}"}
    origin = Origin(address.replace("ws", "http").rsplit("/ws/")[0])
    async with connect(address, origin=origin, additional_headers=headers, open_timeout=60) as socket:
        await socket.send(json.dumps({"watch": ids, "panel": None}))
        for _ in ids:
            await socket.recv()
        await told.put((-1, 0.0))
        await begin.wait()
        while True:
            session = json.loads(await socket.recv())
            await told.put((session["version"], time.monotonic()))


async def measure(address: str, cookie: str, ids: list[int], browsers: int, changes: int) -> list[float]:
    """Return, for each change and browser, the seconds until it was told."""
    from channels.db import database_sync_to_async

    begin, told = asyncio.Event(), asyncio.Queue[tuple[int, float]]()
    tasks = [asyncio.create_task(watch(address, cookie, ids, begin, told)) for _ in range(browsers)]
    for _ in tasks:
        await asyncio.wait_for(told.get(), 120)
    begin.set()
    took: list[float] = []
    for n in range(changes):
        await asyncio.sleep(0.7)
        version, at = await database_sync_to_async(change)(ids[n % len(ids)], n)
        waiting = browsers
        while waiting:
            seen, when = await asyncio.wait_for(told.get(), 30)
            if seen == version:  # else the regular refresh of a sentence
                took.append(when - at)
                waiting -= 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took


def change(pk: int, n: int) -> tuple[int, float]:
    """Change one session's state as a host's writer does; return its new version, and when it was committed."""
    from django.utils import timezone

    from sessions_app import changes
    from sessions_app.models import Session

    state = "reconnecting" if n % 2 else "connecting"
    version = 1_000_000 + n
    Session.objects.filter(pk=pk).update(state=state, version=version, state_changed_at=timezone.now())
    at = time.monotonic()
    changes.announce(pk)
    return version, at


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    options.add_argument("--browsers", type=int, default=200, help="open pages")
    options.add_argument("--changes", type=int, default=20, help="changes, one after the other")
    chosen = options.parse_args()
    with Stage(chosen) as stage:
        from accounts.models import Account

        ids = [Account.objects.create(label=f"Account {n}").session.pk for n in range(_PAGE)]
        cookie = log_in()
        installation = stage.installation()
        address = installation.start_web().replace("http", "ws") + "/ws/sessions/"
        web = installation.programs["web"].pid
        alone = memory_mb([web])
        took = asyncio.run(measure(address, cookie, ids, chosen.browsers, chosen.changes))
        stage.tell(browsers=chosen.browsers, changes=chosen.changes, median_s=round(statistics.median(took), 3),
                   p99_s=round(statistics.quantiles(took, n=100)[98], 3), worst_s=round(max(took), 3),
                   web_mb=alone, web_mb_with_browsers=memory_mb([web]))  # fmt: skip


if __name__ == "__main__":
    main()
