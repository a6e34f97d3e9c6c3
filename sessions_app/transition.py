"""What an observation does to a Session row: its next state, its fields, the event that is kept of it.

Nothing is written here: the host's writer reads the rows, calls `apply`, and saves them in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import Account
from sessions_app import retry
from sessions_app.fleet import FAILED
from sessions_app.models import Session, SessionEvent
from sessions_app.retry import Failure
from sessions_app.states import State, next_state
from sessions_app.whatsapp.client import Kind, Observation, PairFailure

#: A pairing whose codes ran out gets new ones when at least this much of its window is left.
WORTH_RENEWING = timedelta(seconds=30)

#: The fields an observation may change; the writer saves them all. Not `due_at`: a wish may set it at any time.
FIELDS = [
    "state", "reason", "code", "detail", "state_changed_at", "retry_at", "attempts", "failures",
    "breaker_open", "hold", "checked_at", "connected_at", "last_connected_at", "qr_text", "pair_code",
    "code_expires_at", "code_count", "pairing_expires_at", "pairing_phone", "pairing_store", "store", "lid",
    "push_name", "platform", "paired_at",
]  # fmt: skip

#: Stops nobody asked for on this session's account: they end no wait.
_NOT_BY_STAFF = frozenset({"handed_over", "host_stopped", "host_restart"})

#: What may stand in an event: never a QR text or a code.
_EVIDENCE = ("reason", "error", "phone", "expected", "label", "expires_at", "on_connect", "count", "platform",
             "by", "quiet", "retry_at", "silent", "why", "affected", "trial")  # fmt: skip


@dataclass
class Outcome:
    """What came of an observation. `keep` says, after a pairing, whether the phone is accepted (None: no pairing)."""

    event: SessionEvent
    keep: bool | None = None


@dataclass
class _Context:
    session: Session
    seen: Observation
    jitter: float
    rules: Mapping[int, retry.Rule | None]
    evidence: dict[str, Any]
    before: State
    target: State | None
    keep: bool | None = None


def apply(
    session: Session,
    seen: Observation,
    jitter: float,
    *,
    host_name: str = "",
    rules: Mapping[int, retry.Rule | None] = retry.DEFAULTS,
) -> Outcome:
    """Change `session` in memory as `seen` demands and return the event to store. `jitter` lies between 0 and 1."""
    before = State(session.state)
    evidence = {name: seen.detail[name] for name in _EVIDENCE if seen.detail.get(name) not in (None, "")}
    context = _Context(session, seen, jitter, rules, evidence, before, next_state(before, seen.kind))
    # What a pair that changes nothing may still tell (a code, a QR) is up to the step; most need a target.
    step = _STEPS[seen.kind]
    if context.target is not None or seen.kind in _WITHOUT_TARGET:
        step(context)
    if context.target is not None and context.target != before:
        session.state, session.state_changed_at = context.target, seen.at
    session.checked_at = seen.at
    changed = session.state != before
    return Outcome(
        SessionEvent(
            session=session, at=seen.at, kind=seen.kind, actor=str(seen.detail.get("by", "")), host_name=host_name,
            epoch=session.lease_epoch, before=before, after=session.state,
            code=session.code if changed and seen.code is None else seen.code,
            reason=session.reason if changed or seen.kind in _WITHOUT_TARGET else "", evidence=context.evidence,
        ),
        context.keep,
    )  # fmt: skip


# -- a running client


def _starting(c: _Context) -> None:
    s = c.session
    # What it follows, so that one line answers why it was started.
    c.evidence["after"], c.evidence["after_code"] = s.reason or c.before, s.code
    s.retry_at = s.connected_at = None
    evidence = c.evidence
    c.evidence = {}
    _because(c, "")
    c.evidence = evidence


def _connected(c: _Context) -> None:
    s, detail = c.session, c.seen.detail
    phone = str(detail.get("phone", ""))
    expected = s.account.phone
    if phone and expected and phone != expected:
        c.target = State.STOPPED
        s.hold = PairFailure.WRONG_NUMBER
        _because(c, PairFailure.WRONG_NUMBER, phone=phone, expected=expected)
        return
    if phone and not expected:
        _learn(s.account, phone)
    s.connected_at = s.last_connected_at = c.seen.at
    s.retry_at = None
    for name in ("lid", "push_name", "platform"):
        setattr(s, name, detail.get(name) or getattr(s, name))
    _because(c, "")


def _disconnected(c: _Context) -> None:
    code = c.session.code  # of the stream error before it
    _because(c, "dropped")
    c.session.code = code


def _stream_error(c: _Context) -> None:
    c.session.code = c.seen.code


def _failed(c: _Context) -> None:
    """Count the failure and let the policy decide; see retry.after_failure."""
    s, seen, scale = c.session, c.seen, settings.RETRY_TIME_SCALE
    code = seen.code or (s.code if seen.kind is Kind.GRACE_ENDED else None) or retry.OTHER
    failures = [f for f in s.recent_failures if seen.at - f.at <= retry.MEMORY * scale]
    if retry.is_stable(s.connected_at, seen.at, scale):
        s.attempts, s.breaker_open = 0, False
        failures = [f for f in failures if f.code == retry.REPLACED]
    failures.append(Failure(seen.at, code))
    s.attempts += 1
    s.failures = [[f.at.isoformat(), f.code] for f in failures]
    follows = retry.after_failure(
        failures, s.attempts, seen.at, c.jitter, breaker_open=s.breaker_open, rules=c.rules, scale=scale,
        banned_until=_time(seen.detail.get("expires_at")),
    )  # fmt: skip
    cause = _REASONS.get(seen.kind) or str(seen.detail.get("reason") or "refused")
    s.retry_at, s.breaker_open, s.connected_at = follows.retry_at, follows.breaker_open, None
    if follows.hold:
        c.target, s.hold = State.STOPPED, follows.hold
    reason = "breaker_open" if follows.breaker_open else cause
    _because(c, reason, cause=cause)
    s.code = code or None
    if follows.retry_at is not None:
        c.evidence["retry_at"] = follows.retry_at.isoformat()


def _banned(c: _Context) -> None:
    _failed(c)
    c.session.reason = "banned"


def _logged_out(c: _Context) -> None:
    s = c.session
    by_staff = bool(c.seen.detail.get("by"))
    gone = "main_device_gone" if c.seen.code == 403 else "logged_out"
    removed = c.seen.detail.get("on_connect") is False
    _because(c, "by_staff" if by_staff else "removed_on_phone" if removed else gone)
    # The library has deleted the device inside; the file itself is left to cleanup's quarantine.
    s.store, s.paired_at, s.retry_at, s.connected_at = "", None, None, None
    _forget_failures(s)


def _stopped(c: _Context) -> None:
    s = c.session
    if c.before in FAILED and c.seen.detail.get("reason") in _NOT_BY_STAFF:
        # It failed in the same moment as its client was stopped: the wait that follows from that goes on elsewhere.
        c.target = None
        return
    s.retry_at = s.connected_at = None
    if c.seen.detail.get("hold"):
        s.hold = str(c.seen.detail["hold"])
    _because(c, str(c.seen.detail.get("reason", "")))


def _reset(c: _Context) -> None:
    """A person wants it now: earlier failures and holds are forgotten."""
    _forget_failures(c.session)
    c.session.retry_at = None
    c.session.hold = ""


def _held_back(c: _Context) -> None:
    """A cause common to many sessions: one of them is tried, the others wait for its success."""
    if c.session.state in FAILED:
        _because(c, "fleet")


# -- a pairing


def _pair_started(c: _Context) -> None:
    s = c.session
    _forget_code(s)
    s.pairing_expires_at = _time(c.seen.detail.get("expires_at"))
    s.pairing_store = str(c.seen.detail.get("store", ""))
    s.pairing_phone = str(c.seen.detail.get("pairing_phone", ""))
    s.retry_at = s.connected_at = None
    s.hold = ""
    _because(c, "")


def _code(c: _Context) -> None:
    s = c.session
    if s.state != State.PAIRING:
        return
    text = str(c.seen.detail["text"])
    s.qr_text, s.pair_code = (text, "") if c.seen.kind is Kind.QR else ("", text)
    s.code_expires_at = _time(c.seen.detail.get("expires_at"))
    s.code_count += 1


def _pair_scanned(c: _Context) -> None:
    if c.session.state == State.PAIRING:
        _forget_code(c.session)
        _because(c, "scanned")


def _paired(c: _Context) -> None:
    """Accept the phone, or not: one number belongs to one account, and an expected number must be the one."""
    s, detail = c.session, c.seen.detail
    phone, expected = str(detail.get("phone", "")), s.account.phone
    taken = Account.objects.filter(phone=phone).exclude(pk=s.account_id).first() if phone else None
    if phone and expected and phone != expected:
        _refuse(c, PairFailure.WRONG_NUMBER, phone=phone, expected=expected)
    elif taken is not None or (phone and not expected and not _learn(s.account, phone)):
        _refuse(c, PairFailure.NUMBER_TAKEN, phone=phone, label=str(taken or ""))
    else:
        s.store, s.pairing_store, s.paired_at, c.keep = s.pairing_store, "", c.seen.at, True
        s.pairing_expires_at, s.pairing_phone = None, ""
        for name in ("lid", "push_name", "platform"):
            setattr(s, name, detail.get(name) or "")
        _forget_code(s)
        _forget_failures(s)
        _because(c, "paired")


def _refuse(c: _Context, reason: PairFailure, **detail: str) -> None:
    c.keep = False
    _pairing_over(c, reason, **detail)


def _pair_failed(c: _Context) -> None:
    s, reason = c.session, str(c.seen.detail.get("reason", PairFailure.UNEXPECTED))
    window = s.pairing_expires_at
    if reason == PairFailure.TIMEOUT and window is not None and window - c.seen.at >= WORTH_RENEWING:
        c.target = None  # still pairing: the host finds no child and starts the next
        _forget_code(s)
        return
    _pairing_over(c, reason, error=str(c.seen.detail.get("error", "")))


def _pair_cancelled(c: _Context) -> None:
    _pairing_over(c, str(c.seen.detail.get("reason") or "cancelled"))


def _pairing_over(c: _Context, reason: str, **detail: str) -> None:
    s = c.session
    # Keys of an earlier pairing are still good: then the session goes back to them.
    c.target = State.STOPPED if s.store else State.UNPAIRED
    _forget_code(s)
    s.pairing_expires_at, s.pairing_phone, s.pairing_store = None, "", ""
    _because(c, reason, **detail)


# -- pieces


def _because(c: _Context, reason: str, **detail: str) -> None:
    s = c.session
    s.reason, s.code = reason, c.seen.code
    s.detail = {**c.evidence, **{name: value for name, value in detail.items() if value}}
    c.evidence.update(s.detail)


def _learn(account: Account, phone: str) -> bool:
    """Write down the number of an account that had none; False when another account took it meanwhile."""
    try:
        with transaction.atomic():
            Account.objects.filter(pk=account.pk, phone=None).update(phone=phone)
    except IntegrityError:
        return False
    account.phone = phone
    return True


def _forget_code(s: Session) -> None:
    s.qr_text = s.pair_code = ""
    s.code_expires_at = None


def _forget_failures(s: Session) -> None:
    s.attempts, s.failures, s.breaker_open = 0, [], False


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _nothing(c: _Context) -> None:
    """Recorded only."""


_REASONS = {
    Kind.REPLACED: "conflict", Kind.GRACE_ENDED: "dropped", Kind.CONNECT_TIMEOUT: "connect_timeout",
    Kind.PROBE_FAILED: "probe_failed", Kind.CLIENT_DIED: "client_died", Kind.BANNED: "banned",
    Kind.OUTDATED: "outdated", Kind.QUERY_TIMEOUT: "query_timeout",
}  # fmt: skip

#: These have something to say whether or not the state changes.
_WITHOUT_TARGET = frozenset({Kind.STREAM_ERROR, Kind.QR, Kind.PAIR_CODE, Kind.PAIR_SCANNED, Kind.RESET,
                           Kind.HELD_BACK})  # fmt: skip

_STEPS: dict[Kind, Callable[[_Context], None]] = {
    Kind.STARTING: _starting,
    Kind.CONNECTED: _connected,
    Kind.DISCONNECTED: _disconnected,
    Kind.STREAM_ERROR: _stream_error,
    Kind.REPLACED: _failed,
    Kind.LOGGED_OUT: _logged_out,
    Kind.BANNED: _banned,
    Kind.OUTDATED: _failed,
    Kind.CONNECT_FAILED: _failed,
    Kind.CLIENT_DIED: _failed,
    Kind.KEEPALIVE_TIMEOUT: _nothing,
    Kind.KEEPALIVE_RESTORED: _nothing,
    Kind.PROBE_FAILED: _failed,
    Kind.QUERY_TIMEOUT: _failed,
    Kind.GRACE_ENDED: _failed,
    Kind.CONNECT_TIMEOUT: _failed,
    Kind.STOPPED: _stopped,
    Kind.HELD_BACK: _held_back,
    Kind.RESET: _reset,
    Kind.PAIR_STARTED: _pair_started,
    Kind.QR: _code,
    Kind.PAIR_CODE: _code,
    Kind.PAIR_SCANNED: _pair_scanned,
    Kind.PAIRED: _paired,
    Kind.PAIR_FAILED: _pair_failed,
    Kind.PAIR_CANCELLED: _pair_cancelled,
}
