"""What to do next for one session: pure. The host gives a view of row and process, and carries the answer out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sessions_app.models.command import Verb
from sessions_app.states import LIVE, NEEDS_PAIRING, State


class Act(StrEnum):
    """The next step for a session; only one at a time."""

    NOTHING = "nothing"
    START = "start"
    STOP = "stop"  # a running client, on purpose; STOPPED is observed
    DROP = "drop"  # a client that is over already; nothing is observed
    REST = "rest"  # no client, and none wanted: observe STOPPED
    RELEASE = "release"  # the lease, at rest
    HAND_OVER = "hand_over"  # the lease, to another host
    PROBE = "probe"
    CONNECT_TIMEOUT = "connect_timeout"
    GRACE_ENDED = "grace_ended"
    DEAF = "deaf"
    RESET = "reset"
    PAIR = "pair"  # open a window
    RESUME_PAIRING = "resume_pairing"  # within the open window
    CLOSE_WINDOW = "close_window"
    CANCEL_PAIRING = "cancel_pairing"
    DROP_PAIRING = "drop_pairing"
    LOG_OUT = "log_out"
    RESTART = "restart"
    HOLD_BACK = "hold_back"  # a fleet cause: another session is tried first; said once
    REFUSE = "refuse"  # the command cannot be carried out now


@dataclass(frozen=True)
class Limits:
    """The time-outs of DESIGN.md."""

    connect: timedelta = timedelta(seconds=120)
    grace: timedelta = timedelta(seconds=8)
    silence: timedelta = timedelta(seconds=45)
    #: So many drops of one client within a minute count as a failure: the library itself would retry without limit.
    drops: int = 3


@dataclass(frozen=True)
class View:
    """One session as its owner sees it: the row, and what runs in this process."""

    state: State
    wanted: bool  # desired online
    keys: bool = True
    hold: str = ""
    retry_at: datetime | None = None
    since: datetime | None = None  # in this state
    window: datetime | None = None  # end of the pairing window
    verb: Verb | None = None  # oldest open command
    running: bool = False  # a client
    pairing: bool = False  # a pairing child
    leaving: bool = False  # to be handed over
    drops: int = 0  # in the last minute
    keepalive_timeouts: int = 0
    silent: timedelta = timedelta()
    held: int = 0  # id of the fleet cause that holds it back
    held_noted: int = 0  # the last one that was written down


def decide(view: View, now: datetime, limits: Limits) -> Act:
    """Return the next step."""
    if view.verb is not None:
        return _command(view, view.verb)
    if view.state is State.PAIRING:
        return _pairing(view, now)
    if view.pairing:
        return Act.DROP_PAIRING
    if view.running:
        return _running(view, now, limits)
    return _idle(view, now)


def _command(view: View, verb: Verb) -> Act:
    if verb is Verb.PAIR:
        if view.running:
            return Act.DROP
        return Act.DROP_PAIRING if view.pairing else Act.PAIR
    if verb is Verb.CANCEL_PAIRING:
        return Act.CANCEL_PAIRING if view.pairing or view.state is State.PAIRING else Act.REFUSE
    if verb is Verb.LOGOUT:
        return Act.LOG_OUT if view.running and view.state is State.CONNECTED else Act.REFUSE
    if verb is Verb.RESTART and view.running:
        return Act.RESTART
    return Act.REFUSE if view.state in NEEDS_PAIRING else Act.RESET


def _pairing(view: View, now: datetime) -> Act:
    if view.running:
        return Act.DROP
    if not view.wanted:
        return Act.CANCEL_PAIRING
    if view.window is None or view.window <= now:
        return Act.CLOSE_WINDOW
    return Act.NOTHING if view.pairing else Act.RESUME_PAIRING


def _running(view: View, now: datetime, limits: Limits) -> Act:
    age = now - view.since if view.since is not None else timedelta()
    if not view.wanted or view.leaving:
        return Act.STOP
    if view.state not in LIVE:
        return Act.DROP
    if view.state is State.CONNECTING and age >= limits.connect:
        return Act.CONNECT_TIMEOUT
    if view.drops >= limits.drops or (view.state is State.RECONNECTING and age >= limits.grace):
        return Act.GRACE_ENDED
    if view.state is State.CONNECTED and view.keepalive_timeouts >= 2:
        return Act.DEAF
    if view.state is State.CONNECTED and view.silent >= limits.silence:
        return Act.PROBE
    return Act.NOTHING


def _idle(view: View, now: datetime) -> Act:
    if view.state in NEEDS_PAIRING:
        return Act.RELEASE
    if not view.wanted:
        return Act.REST if view.state in LIVE | {State.WAITING} else Act.RELEASE
    if view.hold:
        return Act.RELEASE
    if view.leaving:
        return Act.HAND_OVER
    if view.retry_at is not None and view.retry_at > now:
        return Act.NOTHING
    if view.held:
        return Act.NOTHING if view.held == view.held_noted else Act.HOLD_BACK
    return Act.START
