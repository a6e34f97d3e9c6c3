"""The courier's loop: outcomes and arrivals into the database, then the next message of every account to WhatsApp.

One thread writes, so a turn is one or two short transactions for all accounts together. Sends run on a pool, one at a
time for an account. A message is claimed (state `sending`, under the lease's epoch) and the claim committed before the
library gets it: a process killed at any moment leaves either a queued message or one whose outcome is unknown, and
never one that is sent twice by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    connection,
    transaction,
)
from django.utils import timezone

from accounts.poll import Poll, ask
from messaging import hints
from messaging.courier import inbox
from messaging.courier.clerk import Clerk
from messaging.courier.inbox import Known
from messaging.courier.journal import Journal
from messaging.courier.lane import Lane, Result, claim, give_back, read_ahead
from messaging.courier.sender import send
from messaging.models import ContactPause, Message, PacingRule
from messaging.models.chat import NOTES
from messaging.models.event import EVENTS
from messaging.models.message import CHANGES
from sessions_app.host.extension import Lines
from sessions_app.models import Host
from sessions_app.whatsapp.inbound import Inbound, Receipt

_log = logging.getLogger(__name__)

#: Outcomes or arrivals written in one transaction.
_BATCH = 100
#: After so many failures of the database in a row things are written one by one; after twice as many one is given up.
_SUSPICIOUS = 3
#: Seconds between looks at what changes seldom: limits set by staff, sends left behind.
_SELDOM = 5.0
#: A turn begins so many seconds after the last one at the earliest: what happens meanwhile shares its transactions.
_TURN = 0.01
#: ... and with nobody telling of anything new at the latest.
_CALM = 2.0
#: ... and with nothing to send at all.
_IDLE = 10.0
#: Whether anybody asks something of a session, whether a message is queued whose time has come, and whether any is.
_QUESTION = (
    "SELECT EXISTS(SELECT 1 FROM messaging_hostrequest WHERE answered_at IS NULL AND deadline_at > %(now)s), "
    "EXISTS(SELECT 1 FROM messaging_message WHERE state = 'queued' AND next_at <= %(now)s), "
    "EXISTS(SELECT 1 FROM messaging_message WHERE state = 'queued')"
)
#: Seconds between attempts while the database does not answer.
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


Arrival = tuple[int, Inbound]
Outcome = tuple[Lane, Message, Result]
Parked = tuple[int, Receipt, tuple[str, ...]]


class Courier:
    """Implements host.extension.Extension."""

    def start(self, host: Host, lines: Callable[[], Lines]) -> None:
        """Begin."""
        self._host, self._lines = host, lines
        self._journal = Journal(Path(settings.VAR_DIR) / "inbox")
        self._arrived: deque[Arrival] = deque()
        self._results: deque[Outcome] = deque()
        self._parked: deque[Parked] = deque()
        self._lanes: dict[int, Lane] = {}
        self._on_the_way: dict[int, Lane] = {}  # also those whose session is gone meanwhile
        self._wake, self._ending, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._looked = self._limited = float("-inf")
        self._unconfirmed: tuple[list[Message], datetime] | None = None  # what was claimed, perhaps, and when
        self._waiting: object = False  # a message is queued, be it for later, as of the last turn
        self._failures = 0  # in a row, of the database
        self._senders = ThreadPoolExecutor(max(1, host.capacity), "send")
        self._clerk = Clerk(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()
        hints.listen(self._wake.set, self._ending)

    def receive(self, account_id: int, inbound: Inbound) -> None:
        """Write it into the journal; the loop does the rest."""
        try:
            self._journal.append(account_id, inbound)
        except OSError:
            _log.critical("What arrives cannot be written to disk: a crash would lose it", exc_info=True)
        self._arrived.append((account_id, inbound))
        self._wake.set()

    def settle(self, session_id: int | None, seconds: float) -> None:
        """Send nothing more on this session, and wait for what is on its way."""
        until = time.monotonic() + seconds
        lanes = [lane for pk, lane in list(self._lanes.items()) if session_id in (None, pk)]
        for lane in lanes:
            lane.closed = True
        while any(lane.busy for lane in lanes) and time.monotonic() < until:
            time.sleep(0.02)

    def finish(self, seconds: float) -> None:
        """Write what is there, and end."""
        self._ending.set()
        self._wake.set()
        self._thread.join(seconds)
        self._abandoned.set()
        self._senders.shutdown(wait=False, cancel_futures=True)
        self._clerk.close()

    # -- the loop

    def _run(self) -> None:
        pause, poll = _PAUSE, Poll(self._wake, settings.OUTBOX_POLL.total_seconds())
        self._replay()
        while not self._abandoned.is_set():
            began = time.monotonic()
            try:
                busy = self._turn()
                pause, self._failures = _PAUSE, 0
            except (DatabaseError, InterfaceError):
                _log.warning("The courier waits for the database", exc_info=True)
                self._failures += 1
                close_old_connections()
                self._journal.sync()
                self._abandoned.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Exception:  # noqa: BLE001 - the loop's edge
                _log.exception("A turn of the courier failed")
                self._abandoned.wait(1)
                continue
            if self._ending.is_set() and not (self._arrived or self._results):
                break
            if not busy:
                self._rest(poll)
            self._abandoned.wait(max(0.0, began + _TURN - time.monotonic()))
        self._journal.close()
        connection.close()

    def _rest(self, poll: Poll) -> None:
        """Wait until there may be something to do. What a lane knows of and paces may become due at any look."""
        knows = any(lane.has_read_ahead for lane in self._lanes.values())
        poll.wait(settings.OUTBOX_POLL.total_seconds() if knows else _CALM if self._parked or self._waiting else _IDLE)

    def _turn(self) -> bool:
        """Do what there is to do; return whether there may be more at once."""
        if self._unconfirmed is not None:
            give_back(*self._unconfirmed)
            self._unconfirmed = None
        wrote = self._write()
        self._follow_lines()
        if self._ending.is_set():
            return wrote
        asked, queued, self._waiting = ask(_QUESTION)
        self._look(limits=bool(queued))
        self._clerk.turn(self._lanes, asked=bool(asked))
        return self._hand_over(queued=bool(queued)) or wrote

    def _write(self) -> bool:
        """Store outcomes, then arrivals, in one transaction. Neither is forgotten before it is committed."""
        suspicious = self._failures >= _SUSPICIOUS
        most = 1 if suspicious else _BATCH
        results = [self._results[n] for n in range(min(most, len(self._results)))]
        arrived = [self._arrived[n] for n in range(min(most, len(self._arrived)))]
        if not results and not arrived:
            return False
        try:
            parked, files = self._store(results, arrived, apart=suspicious)
        except Exception as error:
            if suspicious or not _at_fault(error):
                raise
            parked, files = self._store(results, arrived, apart=True)
        for lane, _row, _result in results:
            self._results.popleft()
            lane.busy = None
            self._on_the_way.pop(lane.line.account_id, None)
        for _ in arrived:
            self._arrived.popleft()
        self._parked.extend(parked)
        self._journal.stored(len(arrived) - len(parked))
        if files:
            self._clerk.files_wanted()
        self._resolve_parked()
        return True

    def _store(self, results: Sequence[Outcome], arrived: Sequence[Arrival], *, apart: bool
               ) -> tuple[list[Parked], bool]:  # fmt: skip
        """Store these; return receipts for ids nobody knows, and whether there is a file to fetch.

        `apart`: each by itself, in a savepoint and with a look of its own, so that one that cannot be stored holds up
        no other. Otherwise the first such one fails them all: savepoints are a third of the statements.
        """
        parked: list[Parked] = []
        now, files = timezone.now(), False
        keep, together = (self._keep, nullcontext) if apart else (_simply, CHANGES.together)
        with transaction.atomic(), EVENTS.together(), NOTES.together():
            with together():
                for lane, row, result in results:
                    keep(partial(lane.settle, row, result, now))
            known = Known.of(arrived) if arrived and not apart else None

            def store(account_id: int, inbound: Inbound) -> None:
                nonlocal files
                there = known or Known.of([(account_id, inbound)])
                if not isinstance(inbound, Receipt):
                    stored = inbox.store_message(account_id, inbound, there)
                    files = files or (stored is not None and stored.media_id is not None)
                elif unknown := inbox.store_receipt(account_id, inbound, there):
                    parked.append((account_id, inbound, unknown))

            with together():
                for account_id, inbound in arrived:
                    if not keep(partial(store, account_id, inbound)):
                        self._journal.reject(account_id, inbound)
        return parked, files

    def _keep(self, write: Callable[[], None], *, again: bool = True) -> bool:
        """Write one thing; False when the database will never take it. It must hold up no other.

        Raises DatabaseError while the fault may be the database's: MySQL says "operational" of bad data too, so one
        that keeps failing alone, in a database that works, is at fault itself.
        """
        try:
            with transaction.atomic(), EVENTS.together(), NOTES.together():
                write()
        except (IntegrityError, DataError):
            if again:  # another host may have stored the same at this moment: the second look sees it
                return self._keep(write, again=False)
            _log.exception("Something does not fit the database")  # its account is deleted, for one
            return False
        except (DatabaseError, InterfaceError):
            if self._failures < 2 * _SUSPICIOUS or not self._database_works():
                raise
            _log.exception("The database works, and does not take this")
            return False
        except Exception:  # noqa: BLE001 - it must not hold up the others
            _log.exception("Something could not be written")
            return False
        return True

    def _database_works(self) -> bool:
        try:
            return Host.objects.select_for_update().filter(pk=self._host.pk).exists()
        except (DatabaseError, InterfaceError):
            return False

    def _resolve_parked(self) -> None:
        """Look again at receipts for ids nobody knew, once no send of their account is on its way.

        Before, the id may be that of the message on its way: its receipt can come before its acknowledgement.
        """
        for _ in range(len(self._parked)):
            account_id, receipt, _ids = self._parked[0]
            if account_id in self._on_the_way:
                self._parked.rotate(-1)
                continue
            with transaction.atomic():
                if not self._keep(partial(self._resolve, account_id, receipt)):
                    self._journal.reject(account_id, receipt)
            self._parked.popleft()
            self._journal.stored(1)

    def _resolve(self, account_id: int, receipt: Receipt) -> None:
        for lane in self._lanes.values():
            if lane.line.account_id == account_id:
                lane.take_back()
        if unknown := inbox.store_receipt(account_id, receipt, Known.of([(account_id, receipt)])):
            inbox.resolve(account_id, receipt, unknown)

    def _follow_lines(self) -> None:
        """Have a lane for every line, and none for what is gone."""
        lines = self._lines()
        for pk, lane in list(self._lanes.items()):
            line = lines.get(pk)
            if line is None or line.epoch != lane.line.epoch or line.client is not lane.line.client:
                del self._lanes[pk]
        now = timezone.now()
        for pk, line in lines.items():
            if pk not in self._lanes and line.account_id not in self._on_the_way:
                lane = Lane(line, now)
                with transaction.atomic():
                    lane.take_back()
                self._lanes[pk] = lane

    def _look(self, *, limits: bool) -> None:
        """Look seldom at receipts nobody knew, and while there is something to send at the `limits`."""
        if limits and time.monotonic() - self._limited >= _SELDOM:
            self._limited, now = time.monotonic(), timezone.now()
            accounts = [lane.line.account_id for lane in self._lanes.values()]
            paces, pauses = PacingRule.objects.paces(accounts), ContactPause.objects.untils(accounts, now)
            for lane in self._lanes.values():
                lane.limit(paces[lane.line.account_id], pauses.get(lane.line.account_id))
        if time.monotonic() - self._looked >= _SELDOM:
            self._looked = time.monotonic()
            self._resolve_parked()

    def _hand_over(self, *, queued: bool) -> bool:
        """Claim the next message of each account that may send, and only then hand them to the library."""
        now = timezone.now()
        free = [lane for lane in self._lanes.values() if lane.is_free(now)]
        if queued:
            read_ahead([lane for lane in free if not lane.has_read_ahead], now)
        chosen = [(lane, row) for lane in free if (row := lane.next(now)) is not None]
        if not chosen:
            return False
        self._unconfirmed = [row for _lane, row in chosen], now
        claimed = claim(chosen, self._host, now)
        self._unconfirmed = None
        for lane, row in chosen:
            lane.take(row)
        for lane, row in claimed:
            lane.claimed(row, now)
            self._on_the_way[lane.line.account_id] = lane
            self._senders.submit(self._send, lane, row)
        return len(claimed) < len(chosen)

    def _send(self, lane: Lane, row: Message) -> None:
        """Hand one to the library, on a thread of the pool."""
        result = send(lane.line.client, row, lane.pace)
        self._results.append((lane, row, result))
        self._wake.set()

    def _replay(self) -> None:
        """Store what an earlier process received and did not get into the database."""
        for path, entries in self._journal.left_behind():
            _log.info("%d arrivals of an earlier run are stored now", len(entries))
            for account_id, inbound in entries:
                self.receive(account_id, inbound)
            path.unlink()


def _simply(write: Callable[[], None]) -> bool:
    write()
    return True


def _at_fault(error: Exception) -> bool:
    """Return whether what was written may be at fault, and not the database."""
    return isinstance(error, IntegrityError | DataError) or not isinstance(error, DatabaseError | InterfaceError)
