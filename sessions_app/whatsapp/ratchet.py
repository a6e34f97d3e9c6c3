"""Taking conversations in a device store back to where their last messages can be read once more.

A message's key is used up by reading. When a process is killed before it has written down what the library read, then
WhatsApp, which nobody told that it arrived (tunnel.py), sends it again, and it could not be read any more. So the store
keeps what its rows were of late (`device_store.safeguard`), and whoever opens it next takes the receiving half of each
conversation back a little. The sending half stays: no key may be used twice. What had been written down is recognised
by its id.

The rows are the JSON of go.mau.fi/libsignal (state/record and groups/state/record), its derivations those of the Signal
protocol (X3DH, Double Ratchet). Nothing is put back that does not lead to the key there is now.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import logging
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_log = logging.getLogger(__name__)

#: Most messages a conversation is taken back by: the key of each is kept in it until it is read, or for good.
MOST = 128
#: How many earlier rows of each conversation a store keeps, and seconds between two when only messages were read.
KEPT, APART = 5, 5
#: Seconds after which they are forgotten: what is in hand at a kill arrived just before.
FORGOTTEN = 60

_ROWS = {
    "session": (
        "SELECT session FROM TABLE:whatsmeow_sessions WHERE their_id = ?",
        "UPDATE TABLE:whatsmeow_sessions SET session = ? WHERE their_id = ?",
    ),
    "sender_key": (
        "SELECT sender_key FROM TABLE:whatsmeow_sender_keys WHERE chat_id = ? AND sender_id = ?",
        "UPDATE TABLE:whatsmeow_sender_keys SET sender_key = ? WHERE chat_id = ? AND sender_id = ?",
    ),
}


@dataclass(frozen=True)
class Secrets:
    """The private keys conversations begin with: the device's own, and one-time keys used up of late."""

    identity: bytes
    signed: bytes
    spent: Sequence[bytes] = ()


def session_again(row: bytes, before: Sequence[bytes], secrets: Secrets) -> bytes:
    """Return a row of whatsmeow_sessions that can read again what it read since `before`, its rows oldest first.

    An empty one stands for none. Raises LookupError, TypeError or ValueError for what is no such row.
    """
    record, earlier = json.loads(row), [json.loads(each) for each in before if each]
    known: dict[str, list[dict[str, Any]]] = defaultdict(list)
    old: set[str] | None = None  # the chains that had begun by then
    for each in earlier:
        for chain in (chain for state in _states(each) for chain in _chains(state)):
            known[chain["SenderRatchetKeyPublic"]].append(chain)
        old = set(known) if old is None else old
    for state in _states(record):
        for chain in _chains(state):
            now, theirs = chain["ChainKey"], chain["SenderRatchetKeyPublic"]
            was = ((other["ChainKey"], other["MessageKeys"]) for other in known[theirs])
            young = state is record["SessionState"] and theirs not in (old or ())
            begun = _begun(theirs, state, earlier, secrets) if young else ()
            for key, left in itertools.chain(begun, was):
                if _leads(key["Key"], now["Index"] - key["Index"], now["Key"]):
                    chain["ChainKey"], chain["MessageKeys"] = key, left
                    break
    return _dump(record)


def sender_key_again(row: bytes, before: Sequence[bytes]) -> bytes:
    """The same for whatsmeow_sender_keys, what somebody writes to a group."""
    record = json.loads(row)
    earlier = [state for each in before for state in json.loads(each)["SenderKeyStates"] or []]
    for state in record["SenderKeyStates"] or []:
        if any(b64decode(state["SigningKeyPrivate"] or "")):
            continue  # our own: it is for sending
        now = state["SenderChainKey"]
        for was in earlier:
            key = was["SenderChainKey"]
            same = (was["KeyID"], was["SigningKeyPublic"]) == (state["KeyID"], state["SigningKeyPublic"])
            if same and _leads(key["ChainKey"], now["Iteration"] - key["Iteration"], now["ChainKey"]):
                state["SenderChainKey"], state["Keys"] = key, was["Keys"]
                break
    return _dump(record)


def read_again(execute: Callable[[str, Sequence[Any]], Any], prefix: str, mark: str) -> None:
    """Take a store back to what it kept, and forget that. Within a transaction.

    `prefix` comes before the names of tables, `mark` stands for a value.
    """

    def ask(words: str, *values: Any) -> Any:
        return execute(words.replace("TABLE:", prefix).replace("?", mark), values)

    kept: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for what, who, row in ask("SELECT what, who, was FROM TABLE:waserver_kept ORDER BY id").fetchall():
        kept[what, who].append(bytes(row))
    device = kept and ask("SELECT identity_key, signed_pre_key FROM TABLE:whatsmeow_device").fetchone()
    if not device:
        return  # or logged out
    spent = [key for (what, _), keys in kept.items() if what == "pre_key" for key in keys]
    secrets = Secrets(bytes(device[0]), bytes(device[1]), spent)
    for (what, who), before in kept.items():
        if what not in _ROWS:
            continue
        look, write = _ROWS[what]
        key = who.split(" ", 1) if what == "sender_key" else [who]
        row = ask(look, *key).fetchone()
        if row is None:
            continue
        now = bytes(row[0])
        try:
            again = sender_key_again(now, before) if what == "sender_key" else session_again(now, before, secrets)
        except (LookupError, TypeError, ValueError):
            _log.exception("A conversation cannot be taken back: a message in hand at a kill may be lost")
        else:
            ask(write, again, *key)
    ask("DELETE FROM TABLE:waserver_kept")


def _states(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [record["SessionState"], *(record["PreviousStates"] or [])]


def _chains(state: dict[str, Any]) -> list[dict[str, Any]]:
    return list(state["ReceiverChains"] or [])


def _begun(theirs: str, state: dict[str, Any], earlier: list[dict[str, Any]], secrets: Secrets
           ) -> Iterator[tuple[dict[str, Any], list[Any]]]:  # fmt: skip
    """Yield what the chain of that key of theirs may have begun with, if it has begun of late."""
    for each in earlier:
        was = each["SessionState"]
        if ours := was["SenderChain"]["SenderRatchetKeyPrivate"]:
            yield _first_key(was["RootKey"], ours, theirs), []
    for spent in secrets.spent:
        yield _first_key(_first_root(state, secrets, spent), b64encode(secrets.signed).decode(), theirs), []


def _first_key(root: str, ours: str, theirs: str) -> dict[str, Any]:
    """Return the first key of the chain that begins when they use a new key."""
    secret = HKDF(SHA256(), 64, b64decode(root), b"WhisperRatchet").derive(_agree(b64decode(ours), b64decode(theirs)))
    return {"Key": b64encode(secret[32:]).decode(), "Index": 0}


def _first_root(state: dict[str, Any], secrets: Secrets, spent: bytes) -> str:
    """Return what a conversation begins with that they opened with that one-time key of ours."""
    base, identity = b64decode(state["SenderBaseKey"]), b64decode(state["RemoteIdentityPublic"])
    agreed = (
        _agree(secrets.signed, identity) + _agree(secrets.identity, base)
        + _agree(secrets.signed, base) + _agree(spent, base)
    )  # fmt: skip
    return b64encode(HKDF(SHA256(), 64, None, b"WhisperText").derive(b"\xff" * 32 + agreed)[:32]).decode()


def _agree(ours: bytes, theirs: bytes) -> bytes:
    """Return the shared secret of a private key and a public one with its type before it."""
    return X25519PrivateKey.from_private_bytes(ours).exchange(X25519PublicKey.from_public_bytes(theirs[1:]))


def _leads(key: str, steps: int, to: str) -> bool:
    """Return whether so many messages lead from one chain key to another."""
    if not 0 < steps <= MOST:
        return False
    at = b64decode(key)
    for _ in range(steps):
        at = hmac.digest(at, b"\x02", hashlib.sha256)
    return hmac.compare_digest(at, b64decode(to))


def _dump(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
