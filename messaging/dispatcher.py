"""The dispatcher: one loop for everything about messages that is neither the web's nor a session host's work.

A loop of its own and not a job of the cluster: a delivery then leaves within a moment of its event instead of waiting
for the next tick, and a slow endpoint holds up nobody's health evaluation. Of several dispatchers one works.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from accounts.poll import Poll
from messaging import ageing, answering, feeding, telling, webhooks
from messaging.fetching import Fetcher
from messaging.models import DispatcherLease, Event
from messaging.postman import Postman

_log = logging.getLogger(__name__)

#: Seconds between turns with nothing to do, with nothing written meanwhile either, and after a turn that failed.
_POLL, _CALM, _PAUSE = 0.25, 4.0, 2.0
_RENEW = 5.0


@dataclass
class Step:
    """Something small that is done again and again; `work` returns whether there may be more."""

    name: str
    work: Callable[[], bool]
    every: float = 0.0  # seconds
    due: float = 0.0


class Dispatcher:
    """One per process; `stop` from any thread."""

    def __init__(self) -> None:
        self.name = f"{platform.node()[:30]}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._stopping = threading.Event()
        self._postman, self._fetcher = Postman(), Fetcher()
        self._steps = [
            Step("publish", lambda: Event.objects.publish() > 0),
            Step("answer", lambda: answering.answer(timezone.now())),
            Step("prepare", lambda: webhooks.prepare() > 0),
            Step("deliver", self._postman.go),
            Step("fetch", self._fetcher.go),
            Step("feed", lambda: feeding.feed(timezone.now()), every=0.5),
            Step("tell", telling.tell_sessions, every=1.0),
            Step("age", lambda: ageing.age(timezone.now()), every=5.0),
        ]
        self._renew_at = 0.0
        self._mine = False

    def run(self) -> None:
        """Work until stopped."""
        poll, busy = Poll(), True
        _log.info("Dispatcher %s has started", self.name)
        while not self._stopping.is_set():
            try:
                busy = self._hold() and (poll.due(_CALM) or busy) and self.turn()
            except (DatabaseError, InterfaceError) as error:
                _log.warning("The database did not answer: %s", error)
                close_old_connections()
                busy = False
                self._stopping.wait(_PAUSE)
            if not busy:
                self._stopping.wait(_POLL)
        self._end()

    def stop(self) -> None:
        """Have `run` return within some seconds."""
        self._stopping.set()

    def turn(self) -> bool:
        """Do each step that is due once; return whether any found work. One step's fault is not the others'."""
        busy = False
        for step in self._steps:
            now = time.monotonic()
            if now < step.due or self._stopping.is_set():
                continue
            step.due = now + step.every
            try:
                busy = step.work() or busy
            except (DatabaseError, InterfaceError):
                raise
            except Exception:  # noqa: BLE001 - the edge of the loop
                _log.exception("The dispatcher's step %s failed", step.name)
                step.due = now + _PAUSE
        return busy

    def _hold(self) -> bool:
        now = time.monotonic()
        if now >= self._renew_at:
            self._mine = DispatcherLease.hold(self.name, timezone.now())
            self._renew_at = now + (_RENEW if self._mine else 1.0)
            close_old_connections()
        return self._mine

    def _end(self) -> None:
        self._postman.stop()
        self._fetcher.stop()
        try:
            DispatcherLease.give_back(self.name)
        except (DatabaseError, InterfaceError) as error:
            _log.warning("The dispatcher's lease could not be given back and will run out: %s", error)
        connection.close()
        _log.info("Dispatcher %s has stopped", self.name)
