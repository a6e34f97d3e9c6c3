"""States of a session and the transitions between them: pure, as a table.

`next_state` is the only reader of the table; `tests/test_states.py` proves it complete.
"""

from __future__ import annotations

from enum import StrEnum

from sessions_app.whatsapp.client import Kind


class State(StrEnum):
    """What was last observed of a session."""

    UNPAIRED = "unpaired"
    PAIRING = "pairing"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"  # the library's own short retry
    WAITING = "waiting"  # until retry_at
    LOGGED_OUT = "logged_out"
    BANNED = "banned"
    OUTDATED = "outdated"
    STOPPED = "stopped"


#: A client runs, or should, in these.
LIVE = frozenset({State.CONNECTING, State.CONNECTED, State.RECONNECTING})
#: No keys: only a new pairing helps.
NEEDS_PAIRING = frozenset({State.UNPAIRED, State.LOGGED_OUT})
#: A client may be started from these when the session is due.
STARTABLE = frozenset({State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.WAITING, State.BANNED,
                       State.OUTDATED, State.STOPPED})  # fmt: skip

_PAIRED = LIVE | {State.WAITING, State.BANNED, State.OUTDATED, State.STOPPED}
_ALL = frozenset(State)


def _to(target: State, sources: frozenset[State] | set[State]) -> dict[State, State]:
    return dict.fromkeys(sources, target)


#: kind of observation -> {state before: state after}. A pair that is missing is recorded and changes nothing.
TRANSITIONS: dict[Kind, dict[State, State]] = {
    Kind.STARTING: _to(State.CONNECTING, _PAIRED | {State.PAIRING}),
    Kind.CONNECTED: _to(State.CONNECTED, LIVE),
    Kind.DISCONNECTED: _to(State.RECONNECTING, {State.CONNECTED}),
    Kind.STREAM_ERROR: {},
    Kind.REPLACED: _to(State.WAITING, LIVE),
    Kind.LOGGED_OUT: _to(State.LOGGED_OUT, _PAIRED | {State.PAIRING}),
    Kind.BANNED: _to(State.BANNED, LIVE),
    Kind.OUTDATED: _to(State.OUTDATED, LIVE),
    Kind.CONNECT_FAILED: _to(State.WAITING, LIVE),
    Kind.CLIENT_DIED: _to(State.WAITING, LIVE),
    Kind.KEEPALIVE_TIMEOUT: {},
    Kind.KEEPALIVE_RESTORED: {},
    Kind.PROBE_FAILED: _to(State.WAITING, LIVE),
    Kind.QUERY_TIMEOUT: _to(State.WAITING, LIVE),
    Kind.GRACE_ENDED: _to(State.WAITING, LIVE),
    Kind.CONNECT_TIMEOUT: _to(State.WAITING, LIVE),
    Kind.STOPPED: _to(State.STOPPED, _PAIRED),
    Kind.HELD_BACK: {},
    Kind.RESET: {},
    Kind.PAIR_STARTED: _to(State.PAIRING, _ALL),
    Kind.QR: {},
    Kind.PAIR_CODE: {},
    Kind.PAIR_SCANNED: {},
    Kind.PAIRED: _to(State.CONNECTING, {State.PAIRING}),
    Kind.PAIR_FAILED: _to(State.UNPAIRED, {State.PAIRING}),
    Kind.PAIR_CANCELLED: _to(State.UNPAIRED, {State.PAIRING}),
}


def next_state(state: State, kind: Kind) -> State | None:
    """Return the state that follows, or None when this pair changes nothing."""
    return TRANSITIONS[kind].get(state)
