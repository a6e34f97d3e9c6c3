"""What runs in this process for one owned session: its client or pairing, and the steps that change them.

Steps run on the host's pools, one at a time for a session; while one runs, or an observation is not yet written, no
new step is decided.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from sessions_app.fleet import Cause, Failed, Verdict, judge
from sessions_app.fleet_watch import library
from sessions_app.host.decision import Act, Limits, View
from sessions_app.host.extension import Extensions, Line
from sessions_app.host.writer import Entry, Writer
from sessions_app.log_context import about
from sessions_app.models import Session, SessionCommand, Verb
from sessions_app.models.event import REFUSED
from sessions_app.states import State
from sessions_app.transition import Outcome
from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.client import Client, Kind, Observation, Observe, Pairing, WhatsApp, WhatsAppError
from sessions_app.whatsapp.inbound import Inbound

_log = logging.getLogger(__name__)

_MINUTE = 60.0
#: Seconds a client that is stopped on purpose is given for what is under way on it.
_SETTLE = 5.0


@dataclass(frozen=True)
class Means:
    """What the host lends its runners. `starts` is bounded: at most so many clients start at once."""

    whatsapp: Callable[[], WhatsApp]
    writer: Writer
    starts: Executor
    steps: Executor
    wake: Callable[[], None]
    extensions: Callable[[], Extensions]


class Runner:
    """One owned session under one epoch of its lease."""

    def __init__(self, row: Session, means: Means) -> None:
        self.row, self._means = row, means
        self.epoch = row.lease_epoch
        self.command: SessionCommand | None = None
        self.leaving = False
        self.gone = False  # the lease is lost
        self.starting = False
        self.causes: Sequence[Cause] = ()  # that hit many sessions; kept up to date by the host
        self.verdict = Verdict(row.retry_at)  # what they mean for this session, as of the last view
        self._held_noted = 0
        self._asked_by = ""  # who asked for the next start
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._pairing: Pairing | None = None
        self._proxy = ""
        self._busy = self._probing = False
        self._asked_at: float | None = None  # since when a request to WhatsApp waits for its answer
        self._pending = 0  # observations not yet written
        self._run = 0  # observations of an earlier client or pairing do not count
        self._drops: deque[float] = deque(maxlen=10)
        self._keepalive_timeouts = 0

    # -- for the host's loop

    @property
    def idle(self) -> bool:
        """Return whether a next step may be decided."""
        with self._lock:
            return not (self._busy or self._pending or self.gone)

    @property
    def holds_client(self) -> bool:
        """Return whether a client or pairing runs here."""
        return self._client is not None or self._pairing is not None

    def line(self) -> Line | None:
        """Return the way to talk through this session, None while there is none."""
        row, client = self.row, self._client
        if client is None or row.state != State.CONNECTED or self.leaving or self.gone:
            return None
        return Line(row.pk, row.account_id, self.epoch, client)

    def is_quiet(self, limits: Limits) -> bool:
        """Return whether it is connected and nothing at all is the matter: `decide` would find nothing to do either.

        A host at rest looks at each of its sessions all day, and this costs a tenth.
        """
        row, client = self.row, self._client
        return (
            row.state == State.CONNECTED and client is not None and self.idle and self._pairing is None
            and self.command is None and not self.leaving and not self.causes and not self._drops
            and not self._keepalive_timeouts and row.account.desired == "online"
            and self._proxy == (row.account.proxy or "") and client.silent_for() < limits.silence
        )  # fmt: skip

    def view(self) -> View | None:
        """Return what a decision needs, None while a step or an observation is under way."""
        # Asked first: what a pairing that has ended had to say is counted below, or in the row already.
        pairing = self._pairing is not None and self._pairing.alive()
        with self._lock:
            if self._busy or self._pending or self.gone:
                return None
            row, verb, client = self.row, None, self._client
        if self.command is not None:
            verb = Verb(self.command.verb)
        elif client is not None and self._proxy != (row.account.proxy or ""):
            verb = Verb.RESTART
        recent = time.monotonic() - _MINUTE
        # From the same row as the rest: a failure may be written while this turn of the host goes on.
        failed = Failed(row.pk, State(row.state), row.code or 0, row.attempts, row.state_changed_at, row.retry_at)
        self.verdict = verdict = judge(failed, self.causes, library())
        return View(
            state=State(row.state), wanted=row.account.desired == "online", hold=row.hold, retry_at=verdict.retry_at,
            since=row.state_changed_at, window=row.pairing_expires_at, verb=verb, running=client is not None,
            pairing=pairing, leaving=self.leaving,
            drops=sum(1 for at in self._drops if at > recent), keepalive_timeouts=self._keepalive_timeouts,
            silent=client.silent_for() if client is not None and not self._probing else timedelta(),
            held=verdict.held_by.id if verdict.held_by else 0, held_noted=self._held_noted,
        )  # fmt: skip

    def end_overdue(self) -> None:
        """End the client that has waited for an answer longer than the query time-out: it gets an error then."""
        asked, client = self._asked_at, self._client
        if asked is None or client is None or time.monotonic() - asked < settings.QUERY_TIMEOUT.total_seconds():
            return
        self._asked_at = None
        self.note(Kind.QUERY_TIMEOUT, 408)
        threading.Thread(target=client.stop, daemon=True).start()  # the pool's threads may all be waiting

    def carry_out(self, act: Act, now: datetime) -> None:
        """Begin a step."""
        _STEPS[act](self, now)

    def note(self, kind: Kind, code: int | None = None, **detail: Any) -> None:
        """Record an observation of the host's own."""
        self._put(Observation(kind, code, detail))

    def abandon(self) -> None:
        """The lease is lost: stop everything, write nothing."""
        with self._lock:
            self.gone = True
            self._run += 1
        self._means.steps.submit(self._drop_everything)

    # -- observations

    def _observer(self) -> Observe:
        """Return what a new client or pairing reports to; what an earlier one says is ignored from now on."""
        with self._lock:
            self._run += 1
            run = self._run
        self._drops.clear()
        self._keepalive_timeouts = 0

        def observe(seen: Observation) -> None:
            if run == self._run:
                self._count(seen)
                self._put(seen)

        return observe

    def _count(self, seen: Observation) -> None:
        if seen.kind is Kind.DISCONNECTED:
            self._drops.append(time.monotonic())
        elif seen.kind is Kind.KEEPALIVE_TIMEOUT:
            self._keepalive_timeouts = int(seen.detail.get("count", 1))
        elif seen.kind in (Kind.KEEPALIVE_RESTORED, Kind.CONNECTED):
            self._keepalive_timeouts = 0

    def _put(self, seen: Observation) -> None:
        with self._lock:
            if self.gone:
                return
            self._pending += 1
        self._means.writer.put(Entry(self.row.pk, self.epoch, seen, self._written))

    def _written(self, outcome: Outcome | None) -> None:
        with self._lock:
            if outcome is None:
                self.gone = True
            else:
                self.row = outcome.event.session
            settle = outcome is not None and outcome.keep is not None
            # In one step with the count, so that no decision slips in between.
            self._busy = self._busy or settle
            self._pending -= 1
        if outcome is not None and outcome.keep is not None:
            keep = outcome.keep
            self._means.steps.submit(self._guarded, lambda: self._settle(keep))
        self._means.wake()

    # -- steps

    def _begin(self, pool: Executor, step: Callable[[], None]) -> None:
        with self._lock:
            self._busy = True
        pool.submit(self._guarded, step)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            with about(session=self.row.pk, account=self.row.account_id):
                step()
        except Exception as error:  # noqa: BLE001 - the edge of a pool; the policy decides when to try again
            if not isinstance(error, WhatsAppError):
                _log.exception("A step of session %d failed", self.row.pk)
            self.note(Kind.CLIENT_DIED, error=str(error))
        finally:
            with self._lock:
                self._busy = self.starting = False
            self._means.wake()

    def _start(self, now: datetime) -> None:
        if device_store.is_file(self.row.store) and not device_store.exists(self.row.store_path):
            self.note(Kind.STOPPED, reason="store_missing", hold="store_missing")
            return
        self.starting = True
        self.note(Kind.STARTING, None, why="fleet_trial" if self.verdict.trial_of else "", by=self._asked_by)
        self._asked_by = ""
        store, self._proxy = self.row.store_path, self.row.account.proxy or ""
        observe, account_id = self._observer(), self.row.account_id

        def receive(inbound: Inbound) -> None:
            self._means.extensions().receive(account_id, inbound)

        def connect() -> None:
            if not device_store.exists(store):  # one in PostgreSQL: asked here, where waiting holds nobody up
                self.note(Kind.STOPPED, reason="store_missing", hold="store_missing")
                return
            client = self._means.whatsapp().connect(store, self._proxy, observe, receive)
            with self._lock:
                self._client = client
                gone = self.gone
            if gone:
                self._drop_everything()

        self._begin(self._means.starts, connect)

    def _stop(self, now: datetime) -> None:
        reason = "handed_over" if self.leaving and self.row.account.desired == "online" else "by_staff"
        self._begin(self._means.steps, lambda: self._end_client(reason))

    def _end_client(self, reason: str, by: str = "") -> None:
        self._means.extensions().settle(self.row.pk, _SETTLE)
        self._drop_client()
        self.note(Kind.STOPPED, None, reason=reason, by=by)

    def _drop(self, now: datetime) -> None:
        self._begin(self._means.steps, self._drop_client)

    def _drop_client(self) -> None:
        with self._lock:
            self._run += 1
            client = self._client
        if client is not None:
            client.stop()
        self._client = None

    def _drop_everything(self) -> None:
        self._drop_client()
        if self._pairing is not None:
            self._pairing.cancel()
            self._pairing = None

    def _rest(self, now: datetime) -> None:
        self.note(Kind.STOPPED, reason="by_staff")

    def _probe(self, now: datetime) -> None:
        client, run = self._client, self._run
        assert client is not None
        silent = client.silent_for()
        self._probing = True

        def probe() -> None:
            # One answer may be lost on a bad line: asked twice, it is evidence.
            answered = client.probe(settings.PROBE_TIMEOUT)
            if not answered and run == self._run:
                time.sleep(settings.RETRY_REQUEST_DELAY.total_seconds())
                answered = run != self._run or client.probe(settings.PROBE_TIMEOUT)
            self._probing = False
            if not answered and run == self._run:
                self.note(Kind.PROBE_FAILED, 408, silent=round(silent.total_seconds()))

        self._means.steps.submit(probe)

    def _restart(self, now: datetime) -> None:
        command = self.command
        reason = "restart" if command else "proxy_changed"
        self._asked_by = command.requester if command else ""
        self._finish()
        by = self._asked_by
        self._begin(self._means.steps, lambda: self._end_client(reason, by))

    def _reset(self, now: datetime) -> None:
        self._asked_by = self.command.requester if self.command else ""
        self.note(Kind.RESET, None, by=self._asked_by)
        self._finish()

    def _hold_back(self, now: datetime) -> None:
        cause = self.verdict.held_by
        assert cause is not None
        self._held_noted = cause.id
        self.note(Kind.HELD_BACK, cause.code or None, affected=cause.affected, trial=cause.trial)

    def _log_out(self, now: datetime) -> None:
        client, command = self._client, self.command
        assert client is not None
        assert command is not None
        self.command = None

        def log_out() -> None:
            try:
                self._asked_at = time.monotonic()
                client.logout()
            except WhatsAppError as error:
                command.finish(timezone.now(), str(error))
                return
            finally:
                self._asked_at = None
            self._drop_client()
            self.note(Kind.LOGGED_OUT, None, by=command.requester, on_connect=False)
            command.finish(timezone.now())

        self._begin(self._means.steps, log_out)

    def _refuse(self, now: datetime) -> None:
        assert self.command is not None
        command, sentence = self.command, _REFUSALS[Verb(self.command.verb)]
        self.row.own_event(REFUSED, command.requester, command.verb, now, error=sentence).save()
        self._finish(sentence)

    def _finish(self, error: str = "") -> None:
        if self.command is not None:
            self.command.finish(timezone.now(), error)
            self.command = None

    # -- pairing steps

    def _pair(self, now: datetime) -> None:
        arguments = self.command.arguments if self.command else {}
        self._open_pairing(now + settings.PAIRING_WINDOW, str(arguments.get("phone", "")))
        self._finish()

    def _resume_pairing(self, now: datetime) -> None:
        assert self.row.pairing_expires_at is not None
        self._open_pairing(self.row.pairing_expires_at, self.row.pairing_phone)

    def _open_pairing(self, until: datetime, phone: str) -> None:
        # A fresh store each time: the keys in use are not touched before the new ones are accepted.
        store = device_store.fresh_name(self.row.pk, settings.DEVICE_STORE_URL)
        observe = self._observer()
        self.note(Kind.PAIR_STARTED, expires_at=until.isoformat(), store=store, pairing_phone=phone)
        path = device_store.locate(store, settings.DEVICES_DIR, settings.DEVICE_STORE_URL)
        proxy = self.row.account.proxy or ""

        def pair() -> None:
            try:
                pairing = self._means.whatsapp().pair(path, proxy, observe, phone)
            except WhatsAppError as error:
                self.note(Kind.PAIR_FAILED, None, reason="unexpected", error=str(error))
                return
            with self._lock:
                self._pairing = pairing
                gone = self.gone
            if gone:
                self._drop_everything()

        self._begin(self._means.starts, pair)

    def _close_window(self, now: datetime) -> None:
        self._end_pairing(Kind.PAIR_FAILED, reason="qr_timeout")

    def _cancel_pairing(self, now: datetime) -> None:
        self._finish()
        self._end_pairing(Kind.PAIR_CANCELLED)

    def _drop_pairing(self, now: datetime) -> None:
        self._begin(self._means.steps, self._cancel)

    def _end_pairing(self, kind: Kind, **detail: str) -> None:
        def end() -> None:
            self._cancel()
            self.note(kind, None, **detail)

        self._begin(self._means.steps, end)

    def _cancel(self) -> None:
        with self._lock:
            self._run += 1
            pairing = self._pairing
        if pairing is not None:
            pairing.cancel()
        self._pairing = None

    def _settle(self, keep: bool) -> None:
        """Tell the pairing child the verdict, and wait for its end: only then may a client use its store."""
        pairing = self._pairing
        with self._lock:
            self._run += 1
        if pairing is not None:
            if keep:
                pairing.keep()
            else:
                pairing.unlink()
        self._pairing = None


_REFUSALS = {
    Verb.START: "This account is not paired with a phone: pair it first.",
    Verb.RESTART: "This account is not paired with a phone: pair it first.",
    Verb.LOGOUT: "The account is not connected, so WhatsApp cannot be told: connect it first, or unlink the device "
    "on the phone.",
    Verb.CANCEL_PAIRING: "No pairing is under way.",
    Verb.PAIR: "",
}


def _observe(kind: Kind, code: int | None) -> Callable[[Runner, datetime], None]:
    return lambda runner, now: runner.note(kind, code)


_STEPS: dict[Act, Callable[[Runner, datetime], None]] = {
    Act.START: Runner._start,
    Act.STOP: Runner._stop,
    Act.DROP: Runner._drop,
    Act.REST: Runner._rest,
    Act.PROBE: Runner._probe,
    Act.CONNECT_TIMEOUT: _observe(Kind.CONNECT_TIMEOUT, 408),
    Act.GRACE_ENDED: _observe(Kind.GRACE_ENDED, None),
    Act.DEAF: _observe(Kind.PROBE_FAILED, 408),
    Act.RESET: Runner._reset,
    Act.PAIR: Runner._pair,
    Act.RESUME_PAIRING: Runner._resume_pairing,
    Act.CLOSE_WINDOW: Runner._close_window,
    Act.CANCEL_PAIRING: Runner._cancel_pairing,
    Act.DROP_PAIRING: Runner._drop_pairing,
    Act.LOG_OUT: Runner._log_out,
    Act.RESTART: Runner._restart,
    Act.HOLD_BACK: Runner._hold_back,
    Act.REFUSE: Runner._refuse,
}
