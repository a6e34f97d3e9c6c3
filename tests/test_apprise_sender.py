"""Apprise behind two calls: which addresses it takes, what it says when a message does not arrive."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from monitoring import apprise_sender
from tests.installation import ROOT, free_port
from tests.sinks import http_sink, smtp_sink, text_of


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("json://127.0.0.1:1/x", "JSON"),
        ("mailtos://user:password@smtp.example.com?to=a@example.com", "E-Mail"),
        ("tgram://123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/12315544/", "Telegram"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "Slack"),
    ],
)
def test_common_services_are_known(url: str, service: str) -> None:
    assert apprise_sender.service_of(url) == (service, "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "This is not an Apprise URL"),
        ("ana@example.com", "This is not an Apprise URL"),
        ("nonsense://somewhere", "There is no service “nonsense://”"),
        ("tgram://not-a-token/", "This “tgram://” address is incomplete or wrong"),
        ("mailto://", "This “mailto://” address is incomplete or wrong"),
    ],
)
def test_other_addresses_are_refused_with_a_sentence_that_shows_how(url: str, words: str) -> None:
    service, error = apprise_sender.service_of(url)
    assert service == ""
    assert words in error
    assert "Write it like mailtos://" in error


def test_run_by_itself_it_reads_the_address_from_standard_input_only() -> None:
    asked = subprocess.run(
        [sys.executable, "-P", str(ROOT / "monitoring" / "apprise_sender.py")], input="json://127.0.0.1:1/x\n",
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    assert json.loads(asked.stdout) == {"service": "JSON", "error": ""}


def test_a_message_arrives_with_its_severity() -> None:
    with http_sink() as sink:
        assert apprise_sender.send(f"json://127.0.0.1:{sink.port}/x", "Title", "Line 1\nLine 2", "critical") == ""
    assert sink.received[0]["title"] == "Title"
    assert sink.received[0]["message"] == "Line 1\nLine 2"
    assert sink.received[0]["type"] == "failure"


def test_a_mail_arrives_as_plain_text() -> None:
    with smtp_sink() as sink:
        url = f"mailto://127.0.0.1:{sink.port}?from=waserver@example.com&to=night@example.com"
        assert apprise_sender.send(url, "Memory", "Since 20:31\nDo this", "warning") == ""
    mail = sink.received[0]
    assert "Memory" in mail["Subject"]
    assert "night@example.com" in mail["To"]
    assert text_of(mail).strip() == "Since 20:31\nDo this"


def test_a_refusal_and_a_dead_service_are_told_in_words() -> None:
    with http_sink() as sink:
        sink.refuse = True
        refused = apprise_sender.send(f"json://127.0.0.1:{sink.port}/x", "t", "b", "")
    assert "503" in refused
    dead = apprise_sender.send(f"json://127.0.0.1:{free_port()}/x", "t", "b", "")
    assert "onnection error" in dead
    mail = f"mailto://127.0.0.1:{free_port()}?from=a@example.com&to=b@example.com"
    assert "onnection error" in apprise_sender.send(mail, "t", "b", "")


def test_a_mailbox_that_does_not_exist_is_told() -> None:
    with smtp_sink() as sink:
        sink.refuse = True
        url = f"mailto://127.0.0.1:{sink.port}?from=a@example.com&to=nobody@example.com"
        assert apprise_sender.send(url, "t", "b", "") != ""
    assert not sink.received


def test_an_error_never_holds_a_part_of_the_address_that_may_be_secret() -> None:
    url = "json://user:s3cr3t%2Fword@127.0.0.1:1/hooks/T0KEN-123?key=abcd1234"
    text = "failed for user with s3cr3t/word at 127.0.0.1 (/hooks/T0KEN-123?key=abcd1234, s3cr3t%2Fword)"
    shown = apprise_sender.without_secrets(text, url)
    for secret in ("s3cr3t", "T0KEN", "abcd1234"):
        assert secret not in shown
    assert "127.0.0.1" in shown


def test_a_service_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise_sender, "PATIENCE", 1)
    began = time.monotonic()
    with http_sink() as sink:
        sink.delay = 2
        error = apprise_sender.send(f"json://127.0.0.1:{sink.port}/x?rto=30", "t", "b", "")
    # Ours, or Apprise's own words with the time it measured itself.
    assert re.search(r"did not (answer within 1 s|finish within [01]\.)", error), error
    assert time.monotonic() - began < 10
