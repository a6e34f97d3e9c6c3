"""A log line: JSON with what it is about, and no secret in it."""

from __future__ import annotations

import base64
import json
import logging
import sys
from typing import Any

import pytest

from sessions_app.log_context import about
from waserver.log_lines import Lines, redact

QR = "https://wa.me/settings/linked_devices#2@AbC/d+e=,aaaaBBBB+cc=,dd==,ee=,1"
KEY = base64.b64encode(bytes(range(32))).decode()


def line(message: str, *arguments: object, level: int = logging.INFO, **extra: Any) -> dict[str, Any]:
    record = logging.getLogger("sessions_app.x").makeRecord(
        "sessions_app.x", level, "x.py", 1, message, arguments, extra.pop("exc_info", None), extra=extra
    )
    text = Lines("json").format(record)
    assert "\n" not in text
    fields: dict[str, Any] = json.loads(text)
    return fields


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"shows {QR} now", "AbC/d"),
        ("code 2@kT9xAbCdEfGhIjKlMnOpQrSt,abc=,def= shown", "kT9xAbCd"),
        ("the code is 7KQH-2XYZ.", "7KQH"),
        ("http://user:hunter2@proxy.example:8080 refused", "hunter2"),
        ("socks5://user:p%40ss@proxy.example refused", "p%40ss"),
        ("password=hunter2&x=1", "hunter2"),
        ('{"api_key": "abcdef123456"}', "abcdef123456"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("headers {'X-Api-Key': 'wa_abcdef123456'}", "abcdef123456"),
        ("signing with whsec_MfKQ9r8GKYqrTwjU", "MfKQ9r8G"),
        (f"noise key {KEY}", KEY),
        (f"identity {bytes(range(32)).hex()}", bytes(range(32)).hex()),
    ],
)
def test_a_secret_is_taken_out_of_message_argument_field_and_exception(text: str, secret: str) -> None:
    assert secret not in redact(text)
    try:
        raise ValueError(text)
    except ValueError:
        fields = line("%s", text, level=logging.ERROR, host=text, exc_info=sys.exc_info())
    assert secret not in json.dumps(fields)
    assert secret not in Lines("text").format(logging.makeLogRecord({"msg": text, "name": "x"}))


@pytest.mark.parametrize(
    "text",
    ["Session 7 (connected): start", "+62 812-1111-2222 has scanned", "2026-11-24T20:44:16.884+00:00",
     "http://127.0.0.1:8951/admin/", "process 4097 (python3)", "no token was given"],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_line_says_which_session_and_account_it_is_about() -> None:
    assert line("Session %d is ours", 7)["session"] == 7
    assert line("%d sessions", 7).get("session") is None
    assert line("x", account=3)["account"] == 3
    with about(session=8, account=4):
        fields = line("x")
        assert (fields["session"], fields["account"]) == (8, 4)
        with about(session=9):
            assert (line("x")["session"], line("x")["account"]) == (9, 4)
    assert "session" not in line("x")


def test_errors_carry_what_they_are_grouped_by() -> None:
    try:
        raise OSError("disk full")
    except OSError:
        fields = line("Could not write %s", "a.txt", level=logging.ERROR, exc_info=sys.exc_info())
    assert (fields["cause"], fields["error"], fields["message"]) == (
        "Could not write %s", "OSError: disk full", "Could not write a.txt")  # fmt: skip
    assert "Traceback" in fields["traceback"]
    assert "cause" not in line("fine")
