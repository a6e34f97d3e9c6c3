"""The session host's loop: renew, claim, reconcile."""

from __future__ import annotations

import logging
import os
import platform
import random
import resource
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib.metadata import version

import psutil
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.db.models import F
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.bell import silently
from accounts.change import change
from accounts.poll import Poll, ask
from sessions_app.fleet import FAILED
from sessions_app.fleet_watch import watch
from sessions_app.host import recycling
from sessions_app.host.decision import Act, Limits, decide
from sessions_app.host.extension import Extensions, Line
from sessions_app.host.journal import Journal
from sessions_app.host.pace import Pace
from sessions_app.host.runner import Means, Runner
from sessions_app.host.sharing import fair_share, room
from sessions_app.host.watchdog import EXIT_CODE, Watchdog, clock
from sessions_app.host.writer import Writer
from sessions_app.models import FleetCause, Host, HostEvent, Session, SessionCommand, SessionEvent
from sessions_app.models.event import LEASE_LOST
from sessions_app.models.fleet_cause import begin_trial
from sessions_app.states import LIVE, State
from sessions_app.whatsapp.client import Kind, WhatsApp

_log = logging.getLogger(__name__)

#: With every session connected and nobody telling of anything new the loop looks this many times less often.
_CALM = 10
#: ... and goes through its sessions once in so many such looks: what befalls one wakes it, but silence.
_LOOKS = 2
#: Whether a lease ran out, and whether a session may be claimed; then what changes with ours: their rows, and whether
#: staff ask something of one.
_QUESTION = (
    "SELECT EXISTS(SELECT 1 FROM sessions_app_session WHERE host_id IS NOT NULL AND lease_expires_at < %(now)s), "
    "EXISTS(SELECT 1 FROM sessions_app_session WHERE host_id IS NULL AND due_at <= %(now)s), "
    "COUNT(*), SUM(version), COUNT(due_at), "
    "EXISTS(SELECT 1 FROM sessions_app_sessioncommand c JOIN sessions_app_session s ON s.id = c.session_id "
    "WHERE c.finished_at IS NULL AND s.host_id = %(host)s) "
    "FROM sessions_app_session WHERE host_id = %(host)s"
)
#: What fair shares, and what staff ask of hosts, depend on: the live hosts, sessions owned and to be claimed.
_FLEET = (
    "SELECT COUNT(*), SUM(id), SUM(capacity), SUM(CASE WHEN draining THEN id END), "
    "SUM(CASE WHEN restart_requested_at IS NOT NULL THEN id END), "
    "(SELECT COUNT(*) FROM sessions_app_session WHERE host_id IS NOT NULL), "
    "(SELECT COUNT(*) FROM sessions_app_session WHERE host_id IS NULL AND due_at <= %(now)s) "
    "FROM sessions_app_host WHERE ended_at IS NULL AND heartbeat_at > %(fresh)s"
)
#: Claims per turn of the loop, so that hosts that start together share.
_CLAIMS = 10
#: Sessions handed over per renewal when another host has room.
_HANDED_OVER = 5
#: Clients end before their lease does, by this share of it.
_MARGIN = 0.1
#: Seconds between two looks for a fleet cause, on the retry policy's clock.
_FLEET_EVERY = 2.0
#: Seconds a host about to restart takes to give its sessions to others; what is left then comes back with it.
_GIVE_AWAY_PATIENCE = 60.0
#: Seconds SIGTERM leaves for stopping the clients, then for writing what is queued.
_STOP_PATIENCE, _WRITE_PATIENCE = 5.0, 2.0
#: ... for what is under way on them before, and for what arrived to be written after.
_SETTLE_PATIENCE, _FINISH_PATIENCE = 1.0, 1.0


class SessionHost:
    """One process's host. `run` returns after `stop`."""

    def __init__(self, name: str, capacity: int, region: str = "") -> None:
        self.name, self.capacity, self.region = name, capacity, region
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._process = psutil.Process()
        self._started = 0  # clients, by this process
        self._row: Host
        self._whatsapp: WhatsApp | None = None
        self._loading = threading.Lock()
        self._watchdog = Watchdog()
        self._runners: dict[int, Runner] = {}
        self._lines: dict[int, Line] = {}
        self._extensions: Extensions
        self._renewed = self._reconciled = float("-inf")
        self._calm = 0.0  # seconds
        self._known: list[object] = []  # the answer to what changes with our sessions, as of the last look
        self._fleet: tuple[object, ...] = ()  # the answer to what shares depend on, as of the last renewal
        self._share, self._others, self._room = capacity, False, 0  # as of the last look at all hosts
        self._draining = False
        self._restart_by: float | None = None  # by when (of `clock`) the restart asked for happens at the latest
        self._pace = Pace(settings.HOST_STARTS_PER_SECOND)
        self._failures, self._fleet_watched = 0, float("-inf")
        self._limits = Limits(settings.CONNECT_TIMEOUT, settings.RECONNECT_GRACE, settings.KEEPALIVE_CHECK)

    def stop(self) -> None:
        """Ask the loop to end. Safe in a signal handler."""
        self._stopping.set()
        self._wake.set()

    @property
    def exit_code(self) -> int:
        """Return 0, or what makes any supervisor start the process again when that was asked for."""
        return 0 if self._restart_by is None else EXIT_CODE

    def run(self) -> None:
        """Register, serve until `stop`, then stop all clients and give the leases back."""
        self._register()
        writer = self._writer
        starts, steps = ThreadPoolExecutor(settings.HOST_CONCURRENT_STARTS, "start"), ThreadPoolExecutor(8, "step")
        self._means = Means(self._load_whatsapp, writer, starts, steps, self._wake.set, lambda: self._extensions)
        writer.start()
        self._extensions = Extensions(self._row, lambda: self._lines)
        self._renew()
        self._watchdog.start()
        _log.info("Session host %s is ready for %d sessions (process %d)", self.name, self.capacity, os.getpid())
        every = settings.HOST_POLL.total_seconds()
        self._calm = min(_CALM * every, settings.LEASE_RENEWAL.total_seconds() / 2,
                         settings.KEEPALIVE_CHECK.total_seconds() / 4)  # fmt: skip
        poll = Poll(self._wake, every)
        while not self._stopping.is_set():
            at_rest = self._turn()
            poll.wait(self._calm if at_rest else every)
        self._shut_down(writer)
        for pool in (starts, steps):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _settled(self) -> bool:
        return all(r.idle for r in self._runners.values())

    @property
    def _at_rest(self) -> bool:
        return all(r.idle and r.row.state == State.CONNECTED and not r.leaving for r in self._runners.values())

    # -- one turn

    def _turn(self) -> bool:
        """Look, and do what there is to do; return whether that went well and all sessions are at rest."""
        try:
            if clock() - self._renewed >= settings.LEASE_RENEWAL.total_seconds():
                self._renew()
            expired, claimable, *ours = ask(_QUESTION, host=self._row.pk)
            if expired:
                Session.objects.expire_leases(timezone.now(), self.name)
            at_rest, leaving = self._at_rest, self._draining or self._restart_by is not None
            if leaving:
                self._give_away()
            elif claimable or expired:
                self._claim()
            if leaving or claimable or expired or ours[-1] or ours != self._known or not (at_rest or self._settled):
                self._refresh()
                # Not later: what is seen from here on is written later, and changes the answer.
                self._known = ours if self._settled else []
            elif at_rest and clock() - self._reconciled < (_LOOKS - 0.5) * self._calm:
                return True
            self._watch_fleet()
            self._reconcile()
            self._lines = {pk: line for pk, runner in self._runners.items() if (line := runner.line()) is not None}
            self._reconciled = clock()
            return self._at_rest
        except (DatabaseError, InterfaceError) as error:
            # The watchdog ends the process when this goes on for too long.
            _log.warning("The database does not answer: %s", error)
            close_old_connections()
            self._stopping.wait(1)
        except Exception:  # noqa: BLE001 - the loop's edge
            _log.exception("A turn of the host failed")
            self._stopping.wait(1)
        return False

    def _renew(self) -> None:
        """Extend all leases in one statement. The deadline counts from before it."""
        began, now = clock(), timezone.now()
        with silently():
            change(Session, {"lease_expires_at": now + settings.LEASE}, host_id=self._row.pk)
        memory, files = self._process.memory_info().rss, self._process.num_fds()
        sessions = sum(runner.holds_client for runner in self._runners.values())
        alone = change(Host, {"heartbeat_at": now, "sessions": sessions, "rss": memory, "fds": files},
                       id=self._row.pk, boot=self._row.boot)  # fmt: skip
        self._renewed = began
        self._watchdog.extend(began + (settings.LEASE * (1 - _MARGIN)).total_seconds())
        if not alone:
            _log.critical("Another process runs under the name %s: this one ends", self.name)
            self.stop()
            return
        self._recycle(now, files, memory)
        fleet = ask(_FLEET, fresh=now - settings.LEASE)
        if fleet != self._fleet or len(self._runners) > self._share:
            self._fleet = fleet
            self._heed_staff()
            self._look_around(now)
        self._hand_surplus_over()

    def _recycle(self, now: datetime, files: int, memory: int) -> None:
        """Ask for a restart of its own once the library has left enough behind; one host at a time."""
        limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        age = (now - (self._row.started_at or now)).total_seconds()
        if self._restart_by is not None or not recycling.is_due(self._started, self.capacity, files, limit, age):
            return
        if Host.objects.live(now).exclude(restart_requested_at=None).exists():
            return
        words = _("the library has left much behind: %(starts)d starts of clients, %(files)d open files, %(mb)d MB")
        counts = {"starts": self._started, "files": files, "mb": round(memory / 1e6)}
        self._row.request_restart("host", words % counts)

    def _heed_staff(self) -> None:
        """See whether this host is to give its sessions away."""
        mine = Host.objects.get(pk=self._row.pk)
        self._draining = mine.draining
        if mine.restart_requested_at is not None and self._restart_by is None:
            _log.info("A restart was asked for by %s: %s", mine.restart_requested_by, mine.restart_reason)
            self._restart_by, self._row = clock() + _GIVE_AWAY_PATIENCE, mine

    def _look_around(self, now: datetime) -> None:
        """Work out this host's fair share, and how much room the others have."""
        # Those that wait first: one that another host claims meanwhile counts twice then, for a moment, and not never.
        waiting = Session.objects.claimable(now).count()
        loads = Host.objects.taking(now).loads()
        owned = Session.objects.filter(host__in=Host.objects.live(now)).count()
        others = [load for pk, load in loads.items() if pk != self._row.pk]
        self._others, self._room = bool(others), max(0, room(others) - waiting)
        self._share = fair_share(owned + waiting, [self.capacity, *(capacity for capacity, _ in others)])

    def _hand_surplus_over(self) -> None:
        """Give surplus to other hosts, a few at a time, keeping one more than the fair share."""
        if not self._others or self._draining or self._restart_by is not None:
            return
        # What is leaving may take longer than a renewal: counted as gone, or more would be given than the surplus.
        staying = [r for r in self._runners.values() if not r.leaving]
        leaving = len(self._runners) - len(staying)
        calm = [r for r in staying if r.row.state == State.CONNECTED]
        surplus = len(staying) - self._share - 1
        for runner in calm[: max(0, min(surplus, _HANDED_OVER, self._room - leaving))]:
            runner.leaving = True

    def _give_away(self) -> None:
        """Hand sessions to hosts with room, some at a time; a host about to restart ends when that is done.

        What nobody has room for stays connected here: better on a draining host than on none.
        """
        self._look_around(timezone.now())
        leaving = sum(r.leaving for r in self._runners.values())
        staying = [r for r in self._runners.values() if not r.leaving and r.row.state != State.PAIRING]
        at_once = min(settings.HOST_CONCURRENT_STARTS, self._room) - leaving
        for runner in staying[: max(0, at_once)]:
            runner.leaving = True
        if self._restart_by is not None and (
            not self._runners or not (self._room or leaving) or clock() >= self._restart_by
        ):
            self.stop()

    def _claim(self) -> None:
        now = timezone.now()
        free = self.capacity - len(self._runners)
        due = Session.objects.claimable(now).order_by("-account__important", "due_at").values_list("pk", flat=True)
        candidates = list(due[: min(free, _CLAIMS)]) if free > 0 else []
        if not candidates:
            return
        # Now, not as of the last renewal: a host that just died must not keep its share from the living.
        self._look_around(now)
        if self._others:
            candidates = candidates[: max(0, self._share - len(self._runners))]
        for pk in candidates:
            if Session.objects.claim(pk, self._row, now):
                _log.info("Session %d is ours", pk)

    def _refresh(self) -> None:
        """Bring the runners in line with the rows we own."""
        owned = dict(Session.objects.filter(host=self._row).values_list("pk", "version"))
        for pk, runner in list(self._runners.items()):
            if pk not in owned or runner.gone:
                _log.warning("Session %d is not ours any more: its client is stopped", pk)
                runner.abandon()
                del self._runners[pk]
        # Not the version alone: a row the writer read may carry a hint nobody has taken yet.
        current = {
            pk for pk, runner in self._runners.items()
            if runner.row.version == owned[pk] and runner.row.due_at is None
        }  # fmt: skip
        stale = owned.keys() - current
        for row in Session.objects.select_related("account").filter(host=self._row, pk__in=stale):
            known = self._runners.get(row.pk)
            if known is not None and known.epoch != row.lease_epoch:
                known.abandon()
            if known is None or known.epoch != row.lease_epoch:
                self._runners[row.pk] = Runner(row, self._means)
            elif known.idle and row.version > known.row.version:
                # Not older: the writer may have written since this row was read.
                known.row = row
            if row.due_at is not None:
                # A hint to look, and we are looking; one that arrives from here on is a new value.
                Session.objects.filter(pk=row.pk, host=self._row, due_at=row.due_at).update(
                    due_at=None, version=F("version") + 1
                )
        # Asked before the rows are read: one whose step ends meanwhile has just finished the command it would be shown.
        idle = {pk for pk, runner in self._runners.items() if runner.idle}
        open_commands = SessionCommand.objects.filter(finished_at=None, session__host=self._row).order_by("-id")
        commands = {command.session_id: command for command in open_commands}  # the oldest wins
        for pk, runner in self._runners.items():
            runner.command = commands.get(pk) if pk in idle else None

    def _watch_fleet(self) -> None:
        """Right after failures, and as long as any session waits: look for a cause they have in common."""
        failures, waiting = self._writer.failures, [r for r in self._runners.values() if r.row.state in FAILED]
        pause = _FLEET_EVERY * settings.RETRY_TIME_SCALE
        if clock() - self._fleet_watched >= pause and (failures != self._failures or waiting):
            self._failures, self._fleet_watched = failures, clock()
            watch(timezone.now())
        causes = FleetCause.objects.relevant(timezone.now()) if waiting else []
        for runner in self._runners.values():
            runner.causes = causes

    def _may_be_tried(self, runner: Runner, now: datetime) -> bool:
        """Return whether the database agrees: of a fleet cause only its one trial may start."""
        trial_of = runner.verdict.trial_of
        return trial_of is None or begin_trial(trial_of.id, runner.row.pk, now)

    def _reconcile(self) -> None:
        starts = settings.HOST_CONCURRENT_STARTS - sum(r.starting for r in self._runners.values())
        for runner in sorted(self._runners.values(), key=lambda r: not r.row.account.important):
            runner.end_overdue()
            if runner.is_quiet(self._limits):
                continue
            view = runner.view()
            if view is None:
                continue
            now = timezone.now()
            act = decide(view, now, self._limits)
            if act is Act.NOTHING:
                continue
            if act is Act.START:
                if starts <= 0 or not self._pace.allows(clock(), random.random()):  # noqa: S311 - jitter
                    continue
                if not self._may_be_tried(runner, now):
                    continue
                starts -= 1
                self._started += 1
            if act in (Act.RELEASE, Act.HAND_OVER):
                self._release(runner, now if act is Act.HAND_OVER else None)
            else:
                _log.info("Session %d (%s): %s", runner.row.pk, runner.row.state, act)
                runner.carry_out(act, now)

    def _release(self, runner: Runner, due_at: datetime | None) -> None:
        # When a wish of staff arrived meanwhile the row stays ours, and the next turn sees the wish.
        if runner.row.release(due_at):
            del self._runners[runner.row.pk]

    # -- beginning and end

    def _register(self) -> None:
        now, machine = timezone.now(), platform.node()
        earlier = Host.objects.filter(name=self.name).first()
        if earlier is not None and earlier.is_live(now):
            elsewhere = earlier.machine != machine
            if elsewhere or _runs_host(earlier.pid):
                where = f"on {earlier.machine}" if elsewhere else f"as process {earlier.pid}"
                raise CommandError(
                    f"A session host named {self.name} already runs {where}. Stop it first, or start this one with "
                    "another --name."
                )
        self._row, _created = Host.objects.update_or_create(
            name=self.name,
            defaults={
                "machine": machine, "region": self.region, "pid": os.getpid(), "boot": uuid.uuid4().hex,
                "version": version("neonize"),
                "capacity": self.capacity, "started_at": now, "heartbeat_at": now, "ended_at": None, "sessions": 0,
                "restart_requested_at": None, "restart_requested_by": "", "restart_reason": "",
            },
        )  # fmt: skip
        self._row.note(HostEvent.STARTED, "", f"process {os.getpid()} on {machine}")
        self._writer = Writer(self._row, Journal(settings.RUN_DIR / f"{self.name}.observations"))
        if replayed := self._writer.replay():
            _log.info("Wrote %d observations the earlier run of %s had not written", replayed, self.name)
        # Its sockets ended with the process, so nobody has to wait for these leases to run out.
        died = list(self._row.owned.filter(state__in=LIVE))
        if freed := self._row.release_all(now):
            _log.info("Took over %d sessions of the earlier run of %s", freed, self.name)
        SessionEvent.objects.bulk_create(
            row.own_event(LEASE_LOST, self.name, "host_started_again", now, owner=self.name) for row in died
        )

    def _load_whatsapp(self) -> WhatsApp:
        """Return the client library, loaded when the first session needs it."""
        with self._loading:
            if self._whatsapp is None:
                factory = import_string(settings.WHATSAPP_CLIENT)
                self._whatsapp = factory(library=settings.WHATSAPP_LIBRARY, proxy=settings.WHATSAPP_PROXY)
            return self._whatsapp

    def _why_it_ends(self) -> dict[str, str]:
        if self._restart_by is None:
            return {"reason": "host_stopped"}
        return {"reason": "host_restart", "by": self._row.restart_requested_by, "why": self._row.restart_reason}

    def _shut_down(self, writer: Writer) -> None:
        """Stop the clients, write what was observed, give the leases back; within 10 s whatever hangs."""
        _log.info("Stopping %d sessions", len(self._runners))
        self._lines = {}
        self._extensions.settle(None, _SETTLE_PATIENCE)
        whatsapp = self._whatsapp
        if whatsapp is not None:
            closing = threading.Thread(target=whatsapp.close, daemon=True)
            closing.start()
            closing.join(_STOP_PATIENCE)
        for runner in self._runners.values():
            if runner.row.state in LIVE:
                runner.note(Kind.STOPPED, None, **self._why_it_ends())
        self._extensions.finish(_FINISH_PATIENCE)
        if not writer.finish(_WRITE_PATIENCE):
            _log.error("The last observations could not be written")
        now = timezone.now()
        try:
            self._row.release_all(now)
            if Host.objects.filter(pk=self._row.pk, boot=self._row.boot).update(ended_at=now, sessions=0):
                self._row.note(HostEvent.ENDED, self._row.restart_requested_by, self._row.restart_reason)
        except (DatabaseError, InterfaceError) as error:
            _log.warning("The leases could not be given back and will run out: %s", error)
        self._watchdog.end()
        _log.info("Session host %s has stopped", self.name)


def _runs_host(pid: int) -> bool:
    try:
        return pid != os.getpid() and "run_session_host" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
