"""What the library's log lines and errors mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sessions_app.whatsapp import symptoms
from sessions_app.whatsapp.client import Kind, PairFailure


@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        ("Got 503/ connect failure, assuming automatic reconnect will handle it", Kind.CONNECT_FAILED, 503),
        ("Got 500/some\ntext connect failure, assuming automatic reconnect will", Kind.CONNECT_FAILED, 500),
        ('Unknown connect failure: <failure location="cln" reason="418"/>', Kind.CONNECT_FAILED, 418),
        ("Client outdated (405) connect failure (client version: 2.3000.1)", Kind.OUTDATED, 405),
        ("Failed to reconnect after 515 code: no route", Kind.CONNECT_FAILED, 408),
        ("Got 503 stream error, assuming automatic reconnect will handle it", Kind.STREAM_ERROR, 503),
    ],
)
def test_a_line_of_the_library_s_log_is_an_observation(line: str, kind: Kind, code: int) -> None:
    observation = symptoms.from_log(line)
    assert observation is not None
    assert (observation.kind, observation.code) == (kind, code)


def test_most_lines_say_nothing_about_the_connection() -> None:
    assert symptoms.from_log("Failed to decrypt message: Got 503/ connect failure, assuming automatic") is None


def test_a_ban_tells_its_reason_and_its_end() -> None:
    ban = symptoms.from_log('Temporary ban connect failure: <failure code="104" expire="7200" reason="402"/>')
    assert ban is not None
    assert ban.kind is Kind.BANNED
    assert ban.detail["reason"] == 104
    assert datetime.fromisoformat(ban.detail["expires_at"]) - datetime.now(UTC) > timedelta(seconds=7190)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ("", Kind.CLIENT_DIED, None),
        ("required field neonize.ConnectFailure.Reason not set", Kind.CONNECT_FAILED, 408),
        ("required field neonize.TemporaryBan.Code not set", Kind.BANNED, 402),
        ("failed to dial whatsapp web websocket: Bad Gateway", Kind.CONNECT_FAILED, 408),
        ("noise handshake failed: timed out", Kind.CONNECT_FAILED, 408),
        ("unable to open database file", Kind.CLIENT_DIED, None),
    ],
)
def test_however_the_library_s_call_ends_the_client_is_dead(error: str, kind: Kind, code: int | None) -> None:
    observation = symptoms.from_return(error)
    assert (observation.kind, observation.code) == (kind, code)
    assert observation.kind in symptoms.TERMINAL


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Failed to pair device: invalid device identity HMAC in pair success message", PairFailure.HMAC_MISMATCH),
        ("Failed to pair device: invalid device signature in pair success message", PairFailure.SIGNATURE_MISMATCH),
        ("Failed to pair device: failed to save device store: disk full", PairFailure.UNEXPECTED),
        ("Websocket closed", None),
    ],
)
def test_the_log_tells_why_a_pairing_failed(line: str, reason: PairFailure | None) -> None:
    assert symptoms.pair_failure_from_log(line) is reason


def test_every_subscribed_event_has_a_meaning() -> None:
    assert set(symptoms.SUBSCRIBED) == set(symptoms.EVENTS) | {symptoms.CONNECTED}


def test_a_message_that_could_not_be_read_is_known_without_naming_anybody() -> None:
    why = "failed to decrypt normal message: failed to get or create message keys: received message with old counter"
    line = f"Ignoring message 3EB07A from 4923100000002:1@lid in 4923100000002@lid: {why} (index: 2, count: 1)"
    assert symptoms.unread(line) == ("3EB07A", f"{why} (index: 2, count: 1)")
    line = "Error decrypting message 3EB07A from 49231:1@lid in 49231@lid: failed to decrypt normal message: no session"
    assert symptoms.unread(line) == ("3EB07A", "failed to decrypt normal message: no session")
    assert symptoms.unread("Error reading from websocket: EOF") is None
