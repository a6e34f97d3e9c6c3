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

from accounts.poll import Poll, ask
from messaging import ageing, answering, feeding, telling, webhooks
from messaging.fetching import Fetcher
from messaging.models import DispatcherLease, Event
from messaging.postman import Postman

_log = logging.getLogger(__name__)

#: Seconds between turns with nothing to do, with nobody telling of anything new, and after a turn that failed.
_POLL, _CALM, _PAUSE = 0.25, 5.0, 2.0
#: Seconds between renewals of the lease, and between attempts to get it from another.
_RENEW, _RETRY = 5.0, 1.0
#: A step that would be due within so many seconds is not left until somebody tells of something new.
_SOON = 1.0
#: Whether the stream went on behind a reader.
_NEWER = ("SELECT 1 FROM messaging_event WHERE position > "
          "COALESCE((SELECT position FROM messaging_streamreader WHERE name = '{}'), -1)")  # fmt: skip


@dataclass
class Step:
    """Something small that is done again and again; `work` returns whether there may be more.

    `question` is a SELECT (see accounts.poll.ask) that finds nothing only while there is nothing to do.
    """

    name: str
    work: Callable[[], bool]
    question: str
    every: float = 0.0  # seconds
    due: float = 0.0


class Dispatcher:
    """One per process; `stop` from any thread."""

    def __init__(self) -> None:
        self.name = f"{platform.node()[:30]}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._postman, self._fetcher = Postman(), Fetcher()
        self._steps = [
            Step("publish", lambda: Event.objects.publish() > 0,
                 "SELECT 1 FROM messaging_event WHERE position IS NULL"),
            Step("answer", lambda: answering.answer(timezone.now()), _NEWER.format(answering.READER)),
            Step("prepare", lambda: webhooks.prepare() > 0,
                 "SELECT 1 FROM messaging_webhookendpoint "
                 "WHERE position < (SELECT MAX(position) FROM messaging_event)"),
            Step("deliver", self._postman.go,
                 "SELECT 1 FROM messaging_delivery WHERE state = 'pending' AND next_at <= %(now)s"),
            Step("fetch", self._fetcher.go,
                 "SELECT 1 FROM messaging_media WHERE state = 'wanted' AND next_at <= %(now)s"),
            Step("feed", lambda: feeding.feed(timezone.now()),
                 "SELECT 1 FROM messaging_bulk WHERE state = 'running' AND send_at <= %(now)s", every=0.5),
            Step("tell", telling.tell_sessions,
                 "SELECT 1 FROM sessions_app_session s LEFT JOIN messaging_sessiontold t "
                 "ON t.account_id = s.account_id WHERE t.state IS NULL OR t.state <> s.state", every=1.0),
            Step("age", lambda: ageing.age(timezone.now()),
                 "SELECT 1 FROM messaging_message WHERE state IN ('queued', 'sending', 'uncertain')", every=5.0),
        ]  # fmt: skip
        self._next = 0.0  # when to look again even though nobody tells of anything new
        self._renew_at = 0.0
        self._mine = False

    def run(self) -> None:
        """Work until stopped."""
        poll = Poll(self._wake, _POLL)
        _log.info("Dispatcher %s has started", self.name)
        while not self._stopping.is_set():
            try:
                busy = self._hold() and self.turn()
            except (DatabaseError, InterfaceError) as error:
                _log.warning("The database did not answer: %s", error)
                close_old_connections()
                busy = False
                self._stopping.wait(_PAUSE)
            if not busy:
                poll.wait(max(0.0, self._next - time.monotonic()) if self._mine else _RETRY)
        self._end()

    def stop(self) -> None:
        """Have `run` return within some seconds."""
        self._stopping.set()
        self._wake.set()

    def turn(self) -> bool:
        """Do each step that is due and has something to do once; return whether any found work.

        What one of them makes is the next turn's. One step's fault is not the others'.
        """
        busy, now = False, time.monotonic()
        due = [step for step in self._steps if now >= step.due]
        self._next = max([step.due for step in self._steps if now < step.due <= now + _SOON], default=now + _CALM)
        wanted = ask("SELECT " + ", ".join(f"EXISTS({step.question})" for step in due))
        for step, there in zip(due, wanted, strict=True):
            step.due = now + step.every
            if not there or self._stopping.is_set():
                continue
            try:
                busy = step.work() or busy
            except (DatabaseError, InterfaceError):
                raise
            except Exception:  # noqa: BLE001 - the edge of the loop
                _log.exception("The dispatcher's step %s failed", step.name)
                step.due = now + _PAUSE
                self._next = min(self._next, step.due)
        return busy

    def _hold(self) -> bool:
        now = time.monotonic()
        if now >= self._renew_at:
            self._mine = DispatcherLease.hold(self.name, timezone.now())
            self._renew_at = now + (_RENEW if self._mine else _RETRY)
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
