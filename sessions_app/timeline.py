"""The events of a session, one plain line each: what happened, why, what followed, who."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from sessions_app.explanations import LABELS, moment
from sessions_app.models import Session, SessionEvent, Verb
from sessions_app.models.event import REQUESTED
from sessions_app.states import State
from sessions_app.whatsapp.client import Kind

#: What happened. Complete: tests/test_explanations.py.
HAPPENED = {
    REQUESTED: lazy("asked for"),
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
    Kind.GRACE_ENDED: lazy("did not come back by itself in time and was stopped"),
    Kind.CONNECT_TIMEOUT: lazy("took too long to log in and was stopped"),
    Kind.STOPPED: lazy("was stopped"),
    Kind.RESET: lazy("earlier failures were forgotten"),
    Kind.PAIR_STARTED: lazy("began a pairing"),
    Kind.QR: lazy("showed a QR code"),
    Kind.PAIR_CODE: lazy("showed an 8-character code"),
    Kind.PAIR_SCANNED: lazy("the phone scanned the code"),
    Kind.PAIRED: lazy("the phone was paired"),
    Kind.PAIR_FAILED: lazy("the pairing failed"),
    Kind.PAIR_CANCELLED: lazy("the pairing was cancelled"),
}


@dataclass(frozen=True)
class Line:
    """One event in words."""

    at: datetime
    moment: str
    text: str


def line(event: SessionEvent) -> Line:
    """Return an event in words."""
    text = str(HAPPENED.get(event.kind, event.kind))
    if event.kind == REQUESTED:
        verb = Verb(event.reason).label if event.reason in Verb.values else event.reason
        text = f"{text} “{verb}”"
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
