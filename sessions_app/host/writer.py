"""The one thread that writes observations: in order, each batch in one transaction, none lost to a database hiccup."""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction

from sessions_app import changes
from sessions_app.fleet_watch import FAILURES
from sessions_app.host.journal import Journal, Noted
from sessions_app.models import Host, RetryRule, Session, SessionEvent
from sessions_app.transition import FIELDS, Outcome, apply

_log = logging.getLogger(__name__)

_BATCH = 200
#: Seconds between attempts while the database does not answer.
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

#: Called after the commit; None when the lease was no longer ours and nothing was written.
Written = Callable[[Outcome | None], None]


@dataclass(frozen=True)
class Entry(Noted):
    """One observation on its way to the database."""

    written: Written


class Writer:
    """Takes observations from any thread."""

    def __init__(self, host: Host, journal: Journal) -> None:
        self._host, self._journal = host, journal
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._random = random.Random()  # noqa: S311 - jitter
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.failures = 0  # of sessions, written so far

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Queue an observation; returns at once."""
        self._journal.append(entry)
        self._queue.put(entry)

    def replay(self) -> int:
        """Write what an earlier process of this host observed and did not write; before `start`. Return the number.

        What it did write and not yet strike out is left alone, and so is what another host's epoch has overtaken.
        """
        left = self._journal.left_behind()
        known = set(
            SessionEvent.objects.filter(session__in={noted.session_id for noted in left}, host_name=self._host.name)
            .values_list("session", "epoch", "kind", "at")
        )  # fmt: skip
        missing = [n for n in left if (n.session_id, n.epoch, n.seen.kind.value, n.seen.at) not in known]
        for start in range(0, len(missing), _BATCH):
            self._write([Entry(n.session_id, n.epoch, n.seen, _nobody) for n in missing[start : start + _BATCH]])
        for noted in left:
            if noted not in missing:
                self._journal.written(noted)
        return len(missing)

    def finish(self, timeout: float) -> bool:
        """Write what is queued and end; False when that took longer than `timeout` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)
        self._abandon.set()
        return not self._thread.is_alive()

    def _run(self) -> None:
        ended = False
        while not ended:
            entries: list[Entry] = []
            ended = self._take(entries)
            if entries:
                self._write(entries)
        connection.close()

    def _take(self, entries: list[Entry]) -> bool:
        """Fill `entries`, waiting for the first; return whether the end was asked for."""
        entry = self._queue.get()
        while entry is not None:
            entries.append(entry)
            if len(entries) == _BATCH or self._queue.empty():
                return False
            entry = self._queue.get()
        return True

    def _write(self, entries: list[Entry]) -> None:
        pause = _PAUSE
        tried: list[Outcome | None] = []
        while not self._abandon.is_set():
            try:
                outcomes = self._commit(entries, tried)
            except (DatabaseError, InterfaceError):
                _log.warning("Could not write %d observations, trying again", len(entries), exc_info=True)
                close_old_connections()
                self._abandon.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            except Exception:  # noqa: BLE001 must not hold up the other sessions
                if len(entries) == 1:
                    _log.exception("An observation could not be applied: %s", entries[0].seen.kind)
                    self._journal.written(entries[0])
                    entries[0].written(None)
                    return
                for entry in entries:
                    self._write([entry])
                return
            else:
                self.failures += sum(o is not None and o.event.kind in FAILURES for o in outcomes)
                for entry, outcome in zip(entries, outcomes, strict=True):
                    self._journal.written(entry)
                    entry.written(outcome)
                return

    def _commit(self, entries: list[Entry], tried: list[Outcome | None]) -> list[Outcome | None]:
        """Apply and store them. `tried` is kept between attempts: what the last one stored, or would have.

        A connection that ends at a commit does not say whether it was done; done twice, a failure would count twice.
        """
        ids = {entry.session_id for entry in entries}
        outcomes: list[Outcome | None] = []
        with transaction.atomic():
            if tried and _is_stored(ids, tried):
                changes.announce(*ids)
                return tried
            rows = Session.objects.select_related("account").filter(host=self._host, pk__in=ids).in_bulk()
            touched: dict[int, Session] = {}
            rules = RetryRule.objects.table()
            for entry in entries:
                row = rows.get(entry.session_id)
                if row is None or row.lease_epoch != entry.epoch:
                    _log.warning("Session %d is no longer ours (epoch %d): %s is not written", entry.session_id,
                                 entry.epoch, entry.seen.kind)  # fmt: skip
                    outcomes.append(None)
                    continue
                touched[row.pk] = row
                outcomes.append(apply(row, entry.seen, self._random.random(), host_name=self._host.name, rules=rules))
            # The lease may have gone to another host since the rows were read.
            lost = {pk for pk, row in touched.items() if not row.save_owned(FIELDS)}
            outcomes = [o if o is None or o.event.session_id not in lost else None for o in outcomes]
            SessionEvent.objects.bulk_create(o.event for o in outcomes if o is not None)
            changes.announce(*(touched.keys() - lost))
            tried[:] = outcomes
        return outcomes


def _is_stored(ids: set[int], outcomes: list[Outcome | None]) -> bool:
    """Return whether the transaction of these outcomes was committed, once nobody can still be at it."""
    list(Session.objects.select_for_update().filter(pk__in=ids).values_list("pk"))  # it may be: its rows are locked
    event = next((outcome.event for outcome in outcomes if outcome is not None), None)
    return event is not None and SessionEvent.objects.filter(
        session=event.session_id, epoch=event.epoch, kind=event.kind, at=event.at, host_name=event.host_name
    ).exists()


def _nobody(outcome: Outcome | None) -> None:
    """Nobody waits for it any more."""
