"""What a store is taken back to: the receiving halves, a little, and only where the keys prove it."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from typing import Any

import pytest

from sessions_app.whatsapp.ratchet import MOST, Secrets, sender_key_again, session_again

SECRETS = Secrets(bytes(32), bytes(32))


def key(index: int, seed: bytes = b"seed") -> str:
    """Return the chain key so many messages after the seed."""
    at = hmac.digest(seed, b"", "sha256")
    for _ in range(index):
        at = hmac.digest(at, b"\x02", "sha256")
    return b64encode(at).decode()


def session(received: int, sent: int = 0, seed: bytes = b"seed", left: list[Any] | None = None) -> dict[str, Any]:
    """Return a conversation's state with one chain of theirs."""
    theirs = {"SenderRatchetKeyPublic": "them", "ChainKey": {"Key": key(received, seed), "Index": received},
              "MessageKeys": left or []}  # fmt: skip
    ours = {"SenderRatchetKeyPublic": "us", "SenderRatchetKeyPrivate": "", "ChainKey": {"Key": "", "Index": sent}}
    state = {"RootKey": "", "SenderChain": ours, "ReceiverChains": [theirs]}
    return {"SessionState": state, "PreviousStates": None}


def taken_back(now: dict[str, Any], *before: dict[str, Any]) -> dict[str, Any]:
    row = session_again(json.dumps(now).encode(), [json.dumps(each).encode() for each in before], SECRETS)
    result: dict[str, Any] = json.loads(row)
    return result


def test_what_they_wrote_is_taken_back_and_what_we_wrote_is_not() -> None:
    skipped = [{"Index": 3}]
    assert taken_back(session(9, 7), session(5, 2, left=skipped)) == session(5, 7, left=skipped)


def test_it_goes_back_as_far_as_is_kept_but_not_further_than_can_be_borne() -> None:
    assert taken_back(session(9), session(5), session(7)) == session(5)
    assert taken_back(session(MOST + 9), session(5), session(12)) == session(12)
    assert taken_back(session(MOST + 9), session(5)) == session(MOST + 9)


def test_what_does_not_lead_to_the_key_of_now_is_not_put_in() -> None:
    assert taken_back(session(9), session(5, seed=b"another")) == session(9)
    assert taken_back(session(9), session(10)) == session(9)
    assert taken_back(session(9)) == session(9)


def test_a_conversation_that_was_put_away_is_taken_back_too() -> None:
    def with_previous(received: int) -> dict[str, Any]:
        return session(0, seed=b"new") | {"PreviousStates": [session(received)["SessionState"]]}

    assert taken_back(with_previous(9), session(5)) == with_previous(5)


def group(iteration: int, private: bytes = bytes(32), identity: int = 1) -> dict[str, Any]:
    state = {"KeyID": identity, "SigningKeyPublic": "p", "SigningKeyPrivate": b64encode(private).decode(),
             "SenderChainKey": {"Iteration": iteration, "ChainKey": key(iteration)}, "Keys": []}  # fmt: skip
    return {"SenderKeyStates": [state]}


def test_in_a_group_others_are_taken_back_and_we_are_not() -> None:
    def again(now: dict[str, Any], before: dict[str, Any]) -> Any:
        return json.loads(sender_key_again(json.dumps(now).encode(), [json.dumps(before).encode()]))

    assert again(group(9), group(5)) == group(5)
    assert again(group(9, b"x" * 32), group(5, b"x" * 32)) == group(9, b"x" * 32)
    assert again(group(9), group(5, identity=2)) == group(9)


@pytest.mark.parametrize("row", [b"", b"{}", b"[]", b'{"SessionState": null, "PreviousStates": null}'])
def test_what_is_no_conversation_is_told(row: bytes) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        session_again(row, [], SECRETS)
