"""What a state means and what to do about it, in words for the people in the office. A table: (state, reason)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from accounts import phone
from sessions_app.models import Session
from sessions_app.states import LIVE, State

GREEN, BLUE, AMBER, RED, GREY = "green", "blue", "amber", "red", "grey"


@dataclass(frozen=True)
class Explanation:
    """A badge (label and colour), a sentence that says what the state means, and what to do ("" is nothing)."""

    label: str
    colour: str
    sentence: str
    what_to_do: str


#: State -> label, colour.
LABELS: dict[State, tuple[Any, str]] = {
    State.UNPAIRED: (lazy("not paired"), GREY),
    State.PAIRING: (lazy("pairing"), BLUE),
    State.CONNECTING: (lazy("connecting"), BLUE),
    State.CONNECTED: (lazy("connected"), GREEN),
    State.RECONNECTING: (lazy("reconnecting"), AMBER),
    State.WAITING: (lazy("waiting"), AMBER),
    State.LOGGED_OUT: (lazy("logged out"), RED),
    State.BANNED: (lazy("banned"), RED),
    State.OUTDATED: (lazy("outdated"), RED),
    State.STOPPED: (lazy("stopped"), GREY),
}

_SELF = lazy("It tries again by itself; there is nothing to do.")
_AGAIN = lazy("Show a new code and scan it.")
_PAIR = lazy("Pair the phone again: press “Show a QR code”.")
_PROXY = lazy("Check the proxy's address, user name and password in the account's form.")
_NETWORK = lazy("Check this server's internet connection. It tries again by itself.")
_UPDATE = lazy("Update waserver to a newer release.")

#: (state, reason) -> sentence, what to do. "" is the state's own row. Placeholders are filled from the session.
TABLE: dict[tuple[State, str], tuple[Any, Any]] = {
    (State.UNPAIRED, ""): (lazy("No phone is linked to this account yet."),
                           lazy("Press “Show a QR code” and scan it with the phone.")),
    (State.UNPAIRED, "qr_timeout"): (lazy("The time to scan has passed; nobody scanned the code."), _AGAIN),
    (State.UNPAIRED, "cancelled"): (lazy("The pairing was cancelled."), _AGAIN),
    (State.UNPAIRED, "client_outdated"): (lazy("WhatsApp no longer accepts this version of the client library."),
                                          _UPDATE),
    (State.UNPAIRED, "scanned_without_multidevice"): (
        lazy("The code was scanned by a WhatsApp without linked devices."),
        lazy("Update WhatsApp on the phone, then show a new code.")),
    (State.UNPAIRED, "passkey_requested"): (
        lazy("WhatsApp asks for a passkey on this phone, which a server cannot give."),
        lazy("Turn the passkey off on the phone for linking, or pair with the phone number instead.")),
    (State.UNPAIRED, "hmac_mismatch"): (
        lazy("The phone's answer did not carry the secret of this code (HMAC mismatch)."), _AGAIN),
    (State.UNPAIRED, "signature_mismatch"): (
        lazy("The phone's signature did not fit this device (signature mismatch)."), _AGAIN),
    (State.UNPAIRED, "network_unreachable"): (
        lazy("WhatsApp could not be reached: %(error)s"),
        lazy("Check the internet connection and the proxy, then show a new code.")),
    (State.UNPAIRED, "pair_code_refused"): (
        lazy("WhatsApp gave no code for this number."),
        lazy("Check the number, wait a few minutes, or scan a QR code instead.")),
    (State.UNPAIRED, "wrong_number"): (
        lazy("%(phone)s scanned the code, but this account expects %(expected)s. That phone was unlinked again."),
        lazy("Scan with the right phone, or change the number in the account's form.")),
    (State.UNPAIRED, "number_taken"): (
        lazy("%(phone)s already belongs to the account “%(label)s”. The phone was unlinked again."),
        lazy("Scan with another phone, or delete the other account first.")),
    (State.UNPAIRED, "pairing_process_died"): (lazy("The pairing process ended unexpectedly."), _AGAIN),
    (State.UNPAIRED, "unexpected"): (lazy("The pairing failed: %(error)s"), _AGAIN),
    (State.PAIRING, ""): (lazy("Waiting for the phone to scan the code."), lazy("Follow the steps on this page.")),
    (State.PAIRING, "by_number"): (lazy("Waiting for the code to be typed in on the phone."),
                                   lazy("Follow the steps on this page.")),
    (State.PAIRING, "scanned"): (lazy("%(phone)s has scanned the code and is logging in."), ""),
    (State.CONNECTING, ""): (lazy("Logging in at WhatsApp."), ""),
    (State.CONNECTING, "paired"): (lazy("The phone is paired; logging in."), ""),
    (State.CONNECTED, ""): (lazy("Connected to WhatsApp since %(since)s."), ""),
    (State.RECONNECTING, ""): (lazy("The connection dropped%(code)s and is being restored."), _SELF),
    (State.WAITING, ""): (lazy("Not connected%(code)s; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "conflict"): (
        lazy("Another client uses the same keys%(code)s; next attempt at %(retry)s."),
        lazy("Make sure no other program runs with a copy of this account's keys.")),
    (State.WAITING, "dropped"): (lazy("The connection was lost%(code)s; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "refused"): (lazy("WhatsApp refused the log-in%(code)s; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "connect_timeout"): (
        lazy("The log-in took longer than two minutes; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "query_timeout"): (
        lazy("WhatsApp did not answer a request for two minutes; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "probe_failed"): (
        lazy("WhatsApp no longer answered on an open connection; next attempt at %(retry)s."), _SELF),
    (State.WAITING, "client_died"): (lazy("The client library ended: %(error)s Next attempt at %(retry)s."), _SELF),
    **{(state, "fleet"): (
        lazy("Held back: %(affected)s sessions fail alike%(code)s, so one of them is tried before the others."),
        lazy("It follows by itself once that one stays connected. “Start” tries this one at once."))
       for state in (State.WAITING, State.BANNED, State.OUTDATED)},
    (State.WAITING, "breaker_open"): (
        lazy("Five attempts failed within five minutes%(code)s, so it pauses; one trial at %(retry)s."),
        lazy("Look at the events below for the cause. “Start” tries at once.")),
    **{(State.WAITING, reason): (lazy("WhatsApp could not be reached: %(error)s Next attempt at %(retry)s."), todo)
       for reason, todo in {
           "dial": _NETWORK, "handshake": _NETWORK, "tls": _NETWORK, "no_answer": _NETWORK, "dns": _NETWORK,
           "timeout": _NETWORK, "connection_refused": _NETWORK, "network_unreachable": _NETWORK,
           "proxy_unreachable": _PROXY, "proxy_refused": _PROXY, "proxy_timeout": _PROXY, "proxy_invalid": _PROXY,
       }.items()},
    (State.LOGGED_OUT, ""): (lazy("WhatsApp has logged this device out%(code)s. The account itself is kept."), _PAIR),
    (State.LOGGED_OUT, "main_device_gone"): (
        lazy("The phone's own WhatsApp registration is gone%(code)s."),
        lazy("Register WhatsApp on the phone again, then pair it.")),
    (State.LOGGED_OUT, "removed_on_phone"): (lazy("This device was removed on the phone."), _PAIR),
    (State.LOGGED_OUT, "by_staff"): (lazy("Logged out by your team."), _PAIR),
    (State.BANNED, ""): (
        lazy("WhatsApp has banned this number for a time%(code)s; next attempt at %(retry)s."),
        lazy("Do not send bulk messages from it. It reconnects by itself when the ban ends.")),
    (State.OUTDATED, ""): (
        lazy("WhatsApp no longer accepts this version of the client library%(code)s; checked again at %(retry)s."),
        _UPDATE),
    (State.STOPPED, ""): (lazy("Stopped."), lazy("Press “Start” to connect it.")),
    (State.STOPPED, "by_staff"): (lazy("Stopped by your team."), lazy("Press “Start” to connect it.")),
    (State.STOPPED, "host_stopped"): (lazy("The session host was shut down."),
                                      lazy("It connects again as soon as a session host runs.")),
    (State.STOPPED, "host_restart"): (lazy("The session host restarts."), lazy("It connects again by itself.")),
    (State.STOPPED, "handed_over"): (lazy("Moving to another session host."), ""),
    (State.STOPPED, "restart"): (lazy("Restarting."), ""),
    (State.STOPPED, "proxy_changed"): (lazy("Restarting with its new proxy."), ""),
    (State.STOPPED, "conflict"): (
        lazy("Stopped: another client used the same keys three times within half an hour (440)."),
        lazy("Stop the other program that uses this account, then press “Start”.")),
    (State.STOPPED, "store_missing"): (
        lazy("Stopped: the file with this account's keys is missing."),
        lazy("Restore it from a backup, or pair the phone again.")),
    (State.STOPPED, "store_damaged"): (
        lazy("Stopped: the file with this account's keys is damaged (%(error)s). It was set aside, not deleted."),
        lazy("Restore it from a backup, or pair the phone again.")),
    (State.STOPPED, "wrong_number"): (
        lazy("Stopped: the keys belong to %(phone)s, but the account expects %(expected)s."),
        lazy("Correct the number in the account's form, then press “Start”.")),
}  # fmt: skip

_OFFLINE = lazy("Press “Start” to connect it.")
_NO_HOST = lazy("No session host is running. Start the server with `make run`.")


def explain(session: Session, now: datetime) -> Explanation:
    """Return what to show for a session at this moment."""
    state = State(session.state)
    label, colour = LABELS[state]
    reason = session.reason or ("by_number" if state is State.PAIRING and session.pairing_phone else "")
    sentence, what_to_do = TABLE.get((state, reason)) or TABLE[state, ""]
    if session.is_stale(now) or (session.host_id is None and state in LIVE):
        label, colour, what_to_do = lazy("unknown"), AMBER, _NO_HOST
        sentence = lazy("The session host that held this account went silent; another takes over within a minute.")
    elif session.host_id is None and session.due_at is not None and (now - session.due_at).total_seconds() > 5:
        what_to_do = _NO_HOST
    return Explanation(str(label), colour, str(sentence) % _values(session), str(what_to_do))


def _values(session: Session) -> dict[str, str]:
    detail = session.detail
    return {
        "code": f" ({session.code})" if session.code else "",
        "retry": moment(session.retry_at) or _("once a host is free"),
        "since": moment(session.connected_at),
        "phone": phone.display(str(detail.get("phone", ""))) or _("The phone"),
        "expected": phone.display(str(detail.get("expected", ""))),
        "label": str(detail.get("label", "")),
        "error": str(detail.get("error", "")),
        "affected": str(detail.get("affected", "")),
    }


def moment(at: datetime | None) -> str:
    """Return a time as staff read it, with the date when it is not today."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    return date_format(local, "H:i:s" if local.date() == timezone.localdate() else "j M Y H:i")
