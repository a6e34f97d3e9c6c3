"""The postman: delivers to many endpoints at once, and to each one account's events in order."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import close_old_connections
from django.db.models import Q
from django.utils import timezone

from messaging.models import Delivery, DeliveryState
from messaging.outgoing import Line
from messaging.webhooks import ANSWER_LIMIT, deliver

_log = logging.getLogger(__name__)

#: Calls under way at once; and how many in a row before a lane gives its thread to another.
_THREADS, _IN_A_ROW = 16, 50

Lane = tuple[int, int | None]  # endpoint, account


class Postman:
    """A lane is one account's events for one endpoint: one thread at a time works on it, so order is kept."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="postman")
        self._busy: set[Lane] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def go(self) -> bool:
        """Start every lane whose first delivery is due and that nobody works on; return whether there was one."""
        started = False
        for head in Delivery.objects.heads(timezone.now()):
            lane = (head.endpoint_id, head.account_id)
            with self._lock:
                if lane in self._busy:
                    continue
                self._busy.add(lane)
            self._pool.submit(self._work, lane)
            started = True
        return started

    def idle(self) -> bool:
        """Return whether nothing is under way."""
        with self._lock:
            return not self._busy

    def stop(self) -> None:
        """Finish the calls under way, begin no more."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, lane: Lane) -> None:
        line = Line(settings.WEBHOOK_TIMEOUT, ANSWER_LIMIT)
        try:
            for _ in range(_IN_A_ROW):
                if self._stopping.is_set() or not self._next(lane, line):
                    return
        except Exception:  # noqa: BLE001 - a fault with one endpoint must not end the others
            _log.exception("A webhook could not be delivered (endpoint %d)", lane[0])
        finally:
            line.close()
            with self._lock:
                self._busy.discard(lane)
            close_old_connections()

    def _next(self, lane: Lane, line: Line) -> bool:
        """Deliver the first of a lane; return whether to go on with the next."""
        endpoint_id, account_id = lane
        pending = Delivery.objects.filter(
            Q(account_id=account_id) if account_id else Q(account=None), state=DeliveryState.PENDING,
            endpoint_id=endpoint_id, endpoint__disabled_at=None,
        )  # fmt: skip
        first = pending.select_related("endpoint", "event").order_by("pk").first()
        if first is None or first.next_at > timezone.now():
            return False
        verdict = deliver(first, line)
        return verdict.delivered or (verdict.dead and not verdict.gone)
