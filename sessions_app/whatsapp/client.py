"""The client protocol: what the host may ask of WhatsApp, and what it hears back.

Two sides implement it, `neonize_client.NeonizeWhatsApp` on the real library and `fake.FakeWhatsApp`
for fast tests; `tests/test_client_contract.py` runs the same cases against both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from sessions_app.whatsapp.contents import Content
from sessions_app.whatsapp.inbound import Inbound, Person


class Kind(StrEnum):
    """What can be observed about a session. The host adds the ones marked (host)."""

    # a running client
    STARTING = "starting"  # (host) a client is being started
    CONNECTED = "connected"  # logged in; detail: phone, lid, push_name, platform
    DISCONNECTED = "disconnected"  # socket gone; the library tries again by itself
    STREAM_ERROR = "stream_error"  # the server closed the stream; code; DISCONNECTED follows
    REPLACED = "replaced"  # 440: another client uses the same keys
    LOGGED_OUT = "logged_out"  # 401, 403; detail: on_connect
    BANNED = "banned"  # 402; detail: reason (WhatsApp's number), expires_at (ISO 8601)
    OUTDATED = "outdated"  # 405
    CONNECT_FAILED = "connect_failed"  # log-in refused or the network not reached; code, detail: reason
    CLIENT_DIED = "client_died"  # the library's call ended by itself; detail: error
    KEEPALIVE_TIMEOUT = "keepalive_timeout"  # detail: count
    KEEPALIVE_RESTORED = "keepalive_restored"
    PROBE_FAILED = "probe_failed"  # (host) an active round trip went unanswered; 408
    QUERY_TIMEOUT = "query_timeout"  # (host) a request was not answered within the query time-out; 408
    GRACE_ENDED = "grace_ended"  # (host) the library's own reconnect had its 8 s; 408
    CONNECT_TIMEOUT = "connect_timeout"  # (host) no log-in within the connect time-out; 408
    STOPPED = "stopped"  # (host) a client was stopped on purpose; detail: reason
    HELD_BACK = "held_back"  # (host) not tried although due: a fleet cause lets one session start; detail: affected
    RESET = "reset"  # (host) staff want it started: earlier failures and holds are forgotten
    # a pairing
    PAIR_STARTED = "pair_started"  # (host) a pairing child is being started; detail: expires_at
    QR = "qr"  # detail: text, expires_at (ISO 8601). The text is stored on the Session row only
    PAIR_CODE = "pair_code"  # detail: text, expires_at. As above
    PAIR_SCANNED = "pair_scanned"  # paired with a phone, not yet logged in; detail: phone, lid, platform
    PAIRED = "paired"  # logged in and keys uploaded; detail: phone, lid, push_name, platform
    PAIR_FAILED = "pair_failed"  # detail: reason, one of PairFailure
    PAIR_CANCELLED = "pair_cancelled"  # (host) given up on purpose; detail: reason


class PairFailure(StrEnum):
    """Why a pairing ended without a device."""

    TIMEOUT = "qr_timeout"  # the codes ran out, nobody scanned
    OUTDATED = "client_outdated"  # WhatsApp rejects this client version
    NO_MULTIDEVICE = "scanned_without_multidevice"
    PASSKEY = "passkey_requested"
    HMAC_MISMATCH = "hmac_mismatch"
    SIGNATURE_MISMATCH = "signature_mismatch"
    NETWORK = "network_unreachable"
    CODE_REFUSED = "pair_code_refused"  # WhatsApp gave no 8-character code for this number
    WRONG_NUMBER = "wrong_number"  # (host) another phone than expected scanned
    NUMBER_TAKEN = "number_taken"  # (host) the number belongs to another account
    CHILD_DIED = "pairing_process_died"
    UNEXPECTED = "unexpected"  # anything else; detail: error


@dataclass(frozen=True)
class Observation:
    """One thing seen, in our own terms, in memory. Its stored form is a SessionEvent."""

    kind: Kind
    code: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


#: Called from library threads: it must return at once and must not touch the database.
Observe = Callable[[Observation], None]


#: Called from library threads for what arrives, which WhatsApp will not send again: it must be on disk when this
#: returns, soon, and without the database.
Receive = Callable[[Inbound], None]


class WhatsAppError(Exception):
    """A request to WhatsApp failed; the text is one sentence for a person."""


class NotSent(WhatsAppError):
    """A message was certainly not sent. `code` is stable, `number` WhatsApp's where it gave one."""

    def __init__(self, code: str, sentence: str, *, retryable: bool = False, number: int | None = None) -> None:
        super().__init__(sentence)
        self.code, self.retryable, self.number = code, retryable, number


class Unknown(WhatsAppError):
    """A message was handed over, and whether it was sent is not known. It must not be sent again without a decision."""


@dataclass(frozen=True)
class Sent:
    """WhatsApp's server has the message: its id, and when it took it."""

    id: str
    at: datetime


@dataclass(frozen=True)
class Contact:
    """Whether a number (digits) is on WhatsApp, and as whom."""

    phone: str
    person: Person
    on_whatsapp: bool
    name: str = ""  # the verified name of a business


@dataclass(frozen=True)
class Picture:
    """A profile picture. The address is WhatsApp's and expires."""

    id: str
    url: str


@dataclass(frozen=True)
class Member:
    """Somebody in a group."""

    person: Person
    admin: bool


@dataclass(frozen=True)
class Group:
    """A group the account is in."""

    address: str
    name: str
    topic: str
    owner: Person
    created_at: datetime | None
    members: tuple[Member, ...]


class Typing(StrEnum):
    """What a chat shows the other side."""

    COMPOSING = "composing"
    RECORDING = "recording"
    PAUSED = "paused"


class Client(Protocol):
    """One running connection of one paired device store.

    Its end is always observed: after LOGGED_OUT, BANNED, OUTDATED, REPLACED, CONNECT_FAILED or CLIENT_DIED it
    will not come back by itself and must be stopped.
    """

    def stop(self) -> None:
        """Stop for good. Idempotent, blocking for seconds at most; observes nothing."""

    def probe(self, timeout: timedelta) -> bool:
        """Return whether WhatsApp answered a round trip within `timeout`. Not the library's flags."""

    def silent_for(self) -> timedelta:
        """Return how long no byte has arrived from WhatsApp (zero where the side cannot tell)."""

    def logout(self) -> None:
        """Unlink this device at WhatsApp and delete its keys from the store.

        Raises WhatsAppError when WhatsApp did not confirm; then nothing was deleted.
        """

    # Each of these blocks until WhatsApp answers (up to 75 s, a send some minutes) and cannot be cancelled. Except for
    # `send` they raise WhatsAppError when they fail.

    def send(self, chat: str, content: Content) -> Sent:
        """Send to an address. Raises NotSent (certainly not sent) or Unknown; one at a time for a client."""

    def lookup(self, phones: Sequence[str]) -> list[Contact]:
        """Return for each number (digits), in order, whether it is on WhatsApp."""

    def picture(self, address: str, preview: bool = False) -> Picture | None:
        """Return somebody's profile picture, None where there is none or it is not shown to us."""

    def groups(self) -> list[Group]:
        """Return the groups the account is in."""

    def group(self, address: str) -> Group:
        """Return one group."""

    def typing(self, chat: str, state: Typing) -> None:
        """Show the other side what the account is doing."""

    def available(self, available: bool) -> None:
        """Be shown as online, or not."""

    def mark_read(self, chat: str, sender: str, ids: Sequence[str]) -> None:
        """Tell `sender` that these messages of theirs were read."""

    def download(self, source: bytes) -> bytes:
        """Return the file of a received Media, by its `source`."""


class Pairing(Protocol):
    """One pairing under way. Observes QR or PAIR_CODE, PAIR_SCANNED, then PAIRED or PAIR_FAILED.

    After PAIRED the pairing keeps the connection and waits for `keep` or `unlink`.
    """

    def keep(self) -> None:
        """Accept the paired phone: end the child, leaving the keys in the store. Returns when it has ended."""

    def unlink(self) -> None:
        """Refuse the paired phone: unlink it at WhatsApp, then end. Returns when it has ended."""

    def cancel(self) -> None:
        """Give up and leave nothing behind. Idempotent."""

    def alive(self) -> bool:
        """Return whether the pairing still runs; when it does not, everything it saw has been observed."""


class WhatsApp(Protocol):
    """The library as a whole, one per process. All methods are thread-safe and may block for seconds."""

    def connect(self, store: str, proxy: str, observe: Observe, receive: Receive | None = None) -> Client:
        """Start a client on a paired device store and return after its first sign of life.

        `store` is a path (or a PostgreSQL URL), `proxy` a URL or "" for the default. Without `receive` what arrives is
        dropped.
        Failures are observed, never raised, except a missing or wrong library (WhatsAppError).
        """

    def pair(self, store: str, proxy: str, observe: Observe, phone: str = "") -> Pairing:
        """Start pairing into a fresh device store. With `phone` (digits) an 8-character code is made instead."""

    def close(self) -> None:
        """Stop everything still running. For the end of the process."""
