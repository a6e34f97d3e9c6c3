"""The events of a session, one plain line each: what happened, why, what followed, who."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.explanations import LABELS, moment
from sessions_app.models import Session, SessionEvent, Verb
from sessions_app.models.event import LEASE_LOST, MARKED, REFUSED, RELEASED, REQUESTED
from sessions_app.states import State
from sessions_app.whatsapp.client import Kind

#: What happened. Complete: tests/test_explanations.py.
HAPPENED = {
    REQUESTED: lazy("asked for"),
    REFUSED: lazy("could not be done:"),
    LEASE_LOST: lazy("was taken from its host"),
    RELEASED: lazy("was given back by its host"),
    MARKED: lazy("was marked to be looked at"),
    Kind.STARTING: lazy("started a client"),
    Kind.CONNECTED: lazy("connected to WhatsApp"),
    Kind.DISCONNECTED: lazy("lost the connection"),
    Kind.STREAM_ERROR: lazy("WhatsApp closed the stream"),
    Kind.REPLACED: lazy("was replaced: another client uses the same keys"),
    Kind.LOGGED_OUT: lazy("was logged out"),
    Kind.BANNED: lazy("was banned for a time"),
    Kind.OUTDATED: lazy("was refused: client version outdated"),
    Kind.CONNECT_FAILED: lazy("could not connect"),
    Kind.CLIENT_DIED: lazy("the client ended by itself"),
    Kind.KEEPALIVE_TIMEOUT: lazy("missed a keep-alive"),
    Kind.KEEPALIVE_RESTORED: lazy("keep-alive answered again"),
    Kind.PROBE_FAILED: lazy("did not answer a probe and was stopped"),
    Kind.QUERY_TIMEOUT: lazy("left a request unanswered for too long and was stopped"),
    Kind.GRACE_ENDED: lazy("did not come back by itself in time and was stopped"),
    Kind.CONNECT_TIMEOUT: lazy("took too long to log in and was stopped"),
    Kind.STOPPED: lazy("was stopped"),
    Kind.HELD_BACK: lazy("is held back: many sessions fail alike, one of them is tried first"),
    Kind.RESET: lazy("earlier failures were forgotten"),
    Kind.PAIR_STARTED: lazy("began a pairing"),
    Kind.QR: lazy("showed a QR code"),
    Kind.PAIR_CODE: lazy("showed an 8-character code"),
    Kind.PAIR_SCANNED: lazy("the phone scanned the code"),
    Kind.PAIRED: lazy("the phone was paired"),
    Kind.PAIR_FAILED: lazy("the pairing failed"),
    Kind.PAIR_CANCELLED: lazy("the pairing was cancelled"),
}


#: Why it was started or stopped, by what the event is about: the reason before it, its own reason, or "why".
BECAUSE: dict[str, Any] = {
    "fleet_trial": lazy("as the one trial for all sessions that failed alike"),
    "fleet": lazy("because the cause common to many sessions is over"),
    "conflict": lazy("to try again after another client used its keys%(code)s"),
    "dropped": lazy("to try again after the connection was lost%(code)s"),
    "refused": lazy("to try again after WhatsApp refused the log-in%(code)s"),
    "connect_timeout": lazy("to try again after a log-in that took too long"),
    "query_timeout": lazy("because WhatsApp had not answered a request"),
    "probe_failed": lazy("because WhatsApp no longer answered on the open connection"),
    "client_died": lazy("because the client library had ended by itself"),
    "breaker_open": lazy("as the one trial after the pause of the circuit breaker%(code)s"),
    "banned": lazy("because the ban has ended"),
    "outdated": lazy("to see whether WhatsApp accepts this client version again"),
    "restart": lazy("because a restart was asked for"),
    "proxy_changed": lazy("because its proxy was changed"),
    "by_staff": lazy("because it is wanted online again"),
    "handed_over": lazy("because it moved here from another host"),
    "host_stopped": lazy("because its host had been shut down"),
    "host_restart": lazy("because its host had been restarted"),
    "host_died": lazy("because its host had died"),
    "lease_ran_out": lazy("because that host had gone silent"),
    "host_started_again": lazy("because that host's process had died and runs again"),
    "at_rest": lazy("because there is nothing to do for it"),
    "nobody_owned_it": lazy("because it should be online and no host had it"),
    "stuck": lazy("because it took longer than it may"),
    "paired": lazy("because the phone was just paired"),
    "cancelled": lazy("because the pairing was given up and its earlier keys are good"),
    "store_missing": lazy("because the file with its keys is there again"),
    **dict.fromkeys((State.CONNECTED, State.CONNECTING, State.RECONNECTING),
                    lazy("because the host that had it died or went silent")),
    State.STOPPED: lazy("because it is wanted online"),
}  # fmt: skip


def _because(event: SessionEvent) -> str:
    evidence = event.evidence
    if event.kind == Kind.STARTING:
        key = evidence.get("why") or evidence.get("after", "")
        code = f" ({evidence['after_code']})" if evidence.get("after_code") else ""
        words = BECAUSE.get(key) or lazy("to try again after “%(key)s”%(code)s")
        return str(words) % {"key": key, "code": code}
    if event.kind in (LEASE_LOST, RELEASED, MARKED) or (event.kind == Kind.STOPPED and event.reason):
        words = str(BECAUSE.get(event.reason, event.reason)) % {"code": ""}
        more = evidence.get("owner") or evidence.get("why")
        return f"{words} ({more})" if more else words
    return ""


@dataclass(frozen=True)
class Line:
    """One event in words."""

    at: datetime
    moment: str
    text: str


def line(event: SessionEvent) -> Line:
    """Return an event in words."""
    text = str(HAPPENED.get(event.kind, event.kind))
    if event.kind in (REQUESTED, REFUSED):
        verb = Verb(event.reason).label if event.reason in Verb.values else event.reason
        text = f"{text} “{verb}”"
    if because := _because(event):
        text += f", {because}"
    if event.code:
        text += f" ({event.code})"
    if error := event.evidence.get("error"):
        text += f": {error}"
    if event.after and event.after != event.before:
        text += f" → {LABELS[State(event.after)][0]}"
    if retry_at := event.evidence.get("retry_at"):
        text += ", " + _("next attempt %(at)s") % {"at": moment(datetime.fromisoformat(retry_at))}
    by = event.actor or event.host_name
    return Line(event.at, moment(event.at), f"{text} · {_('by')} {by}" if by else text)


def timeline(session: Session, limit: int = 50) -> list[Line]:
    """Return the newest events first."""
    return [line(event) for event in session.events.order_by("-id")[:limit]]
