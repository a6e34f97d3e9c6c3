"""What the library's log lines, errors and events mean, in our own terms. Pure.

The log matters: whatsmeow says there, and only there, why a pairing failed, that a log-in was refused with 500 or 503
(it would retry for ever, unseen), and which code it did not know (its event pump then breaks).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sessions_app.whatsapp.client import Kind, Observation, PairFailure

#: After one of these the client will not come back by itself.
TERMINAL = frozenset({Kind.REPLACED, Kind.LOGGED_OUT, Kind.BANNED, Kind.OUTDATED, Kind.CONNECT_FAILED,
                      Kind.CLIENT_DIED})  # fmt: skip

#: Numbers of the library's events, as passed to its event callback.
DEVICE, QR, PAIR_STATUS, CONNECTED, KEEPALIVE_TIMEOUT, KEEPALIVE_RESTORED, LOGGED_OUT, REPLACED = range(8)
BANNED, CONNECT_FAILED, OUTDATED, STREAM_ERROR, DISCONNECTED = range(8, 13)
#: The events a running client asks for.
SUBSCRIBED = bytes([CONNECTED, KEEPALIVE_TIMEOUT, KEEPALIVE_RESTORED, LOGGED_OUT, REPLACED, BANNED, CONNECT_FAILED,
                    OUTDATED, STREAM_ERROR, DISCONNECTED])  # fmt: skip

# The library's own enumerations -> WhatsApp's numbers (whatsmeow types/events/events.go).
_FAILURES = {1: 400, 2: 401, 3: 402, 4: 403, 5: 406, 6: 405, 7: 409, 8: 500, 9: 501, 10: 503}
_BANS = {1: 101, 2: 102, 3: 103, 4: 104, 5: 106}

_RETRIED = re.compile(r"Got (\d{3})/.* connect failure, assuming automatic reconnect", re.DOTALL)
_UNKNOWN = re.compile(r"Unknown connect failure: <failure\b[^>]*\breason=\"(\d+)\"")
_BAN = re.compile(r"Temporary ban connect failure: <failure\b([^>]*)")
_ATTRIBUTE = re.compile(r"\b(code|expire)=\"(\d+)\"")
#: Without the addresses in it: a log names nobody.
_UNREAD = re.compile(r"(?:Ignoring|Error decrypting) message (\S+) from .*?: (failed to .*)")


def unread(line: str) -> tuple[str, str] | None:
    """Return (id, why) when a WARN line says that the library could not decrypt a message. It asks for it again, but
    not for one whose counter it has seen before: that one is lost here."""
    found = _UNREAD.match(line)
    return (found[1], found[2]) if found else None


def from_log(line: str) -> Observation | None:
    """Return what a WARN or ERROR line of the library says about the connection, if anything."""
    if found := _RETRIED.match(line) or _UNKNOWN.match(line):
        return connect_failed(int(found[1]), "refused", f"WhatsApp refused the log-in with code {found[1]}.")
    if found := _BAN.match(line):
        values = {name: int(number) for name, number in _ATTRIBUTE.findall(found[1])}
        return banned(values.get("code"), values.get("expire"))
    if line.startswith("Client outdated (405)"):
        return Observation(Kind.OUTDATED, 405)
    if line.startswith("Failed to reconnect after 515"):
        return connect_failed(408, "dial", "The reconnect WhatsApp asked for failed.")
    if line.startswith("Got 503 stream error"):
        return Observation(Kind.STREAM_ERROR, 503)
    return None


def from_return(error: str) -> Observation:
    """Return what it means that the library's blocking call ended by itself with this error text ("" is none)."""
    if "ConnectFailure.Reason not set" in error:
        return connect_failed(408, "refused", "WhatsApp refused the log-in with a code the library does not know.")
    if "TemporaryBan.Code not set" in error:
        return banned(None, None)
    if "certificate" in error:
        return connect_failed(408, "tls", "The certificate of web.whatsapp.com was not accepted: something between "
                                          "this machine and WhatsApp intercepts the connection.")  # fmt: skip
    if "failed to dial" in error:
        return connect_failed(408, "dial", "WhatsApp was not reached.")
    if "handshake failed" in error:
        return connect_failed(408, "handshake", "WhatsApp did not finish the encrypted handshake.")
    return Observation(Kind.CLIENT_DIED, None, {"error": error or "The library ended by itself."})


def connect_failed(code: int, reason: str, error: str) -> Observation:
    """Return a CONNECT_FAILED observation; `reason` is a stable code, `error` a sentence."""
    return Observation(Kind.CONNECT_FAILED, code, {"reason": reason, "error": error})


def banned(reason: int | None, seconds: int | None) -> Observation:
    """Return a BANNED observation that ends `seconds` from now (an hour where WhatsApp does not say)."""
    expires_at = datetime.now(UTC) + timedelta(seconds=3600 if seconds is None else seconds)
    return Observation(Kind.BANNED, 402, {"reason": reason, "expires_at": expires_at.isoformat()})


def device_detail(device: Any) -> dict[str, Any]:
    """Return phone, lid, push_name and platform of the library's Device message (None: nothing is known)."""
    if device is None:
        return {"phone": "", "lid": "", "push_name": "", "platform": ""}
    lid = f"{device.LID.User}@{device.LID.Server}" if device.LID.User else ""
    return {"phone": device.JID.User, "lid": lid, "push_name": device.PushName, "platform": device.Platform}


def _logged_out(event: Any) -> Observation:
    number = _FAILURES.get(event.Reason, 401)
    # 406 deletes the keys just like 401: for the host there is no difference.
    code = 403 if number == 403 else 401
    return Observation(Kind.LOGGED_OUT, code, {"on_connect": event.OnConnect, "reason": number})


def _stream_error(event: Any) -> Observation:
    return Observation(Kind.STREAM_ERROR, int(event.Code) if event.Code.isdigit() else None)


def _failed(event: Any) -> Observation:
    number = _FAILURES.get(event.Reason, 408)
    return connect_failed(number, "refused", f"WhatsApp refused the log-in with code {number}.")


EVENTS: dict[int, Callable[[Any], Observation]] = {
    KEEPALIVE_TIMEOUT: lambda event: Observation(Kind.KEEPALIVE_TIMEOUT, 408, {"count": event.ErrorCount}),
    KEEPALIVE_RESTORED: lambda event: Observation(Kind.KEEPALIVE_RESTORED),
    LOGGED_OUT: _logged_out,
    REPLACED: lambda event: Observation(Kind.REPLACED, 440),
    BANNED: lambda event: banned(_BANS.get(event.Code), event.Expire),
    CONNECT_FAILED: _failed,
    OUTDATED: lambda event: Observation(Kind.OUTDATED, 405),
    STREAM_ERROR: _stream_error,
    DISCONNECTED: lambda event: Observation(Kind.DISCONNECTED),
}

#: The library's log-in status -> why the pairing failed.
PAIR_STATUSES = {
    "timeout": PairFailure.TIMEOUT,
    "err-client-outdated": PairFailure.OUTDATED,
    "err-scanned-without-multidevice": PairFailure.NO_MULTIDEVICE,
    "passkey-request": PairFailure.PASSKEY,
    "passkey-confirmation": PairFailure.PASSKEY,
    "passkey-response": PairFailure.PASSKEY,
    "error": PairFailure.UNEXPECTED,
    "err-unexpected-state": PairFailure.UNEXPECTED,
}


def pair_failure_from_log(line: str) -> PairFailure | None:
    """Return why a pairing failed, from "Failed to pair device: ..."; None for any other line."""
    if not line.startswith("Failed to pair device:"):
        return None
    text = line.lower()
    if "hmac" in text:
        return PairFailure.HMAC_MISMATCH
    if "signature" in text:
        return PairFailure.SIGNATURE_MISMATCH
    return PairFailure.UNEXPECTED
