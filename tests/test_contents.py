"""Contents and what arrived, into JSON and back; what becomes of a failed send; what a link preview says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from messaging.courier import preview
from messaging.courier.outcome import ATTEMPTS, Next, judge, wait
from messaging.errors import CATALOGUE
from messaging.outgoing import Answer, CallFailed
from sessions_app.whatsapp import inbound, outgoing
from sessions_app.whatsapp.client import NotSent, Unknown
from sessions_app.whatsapp.contents import (
    ContactCard,
    Content,
    ContentKind,
    Edit,
    Location,
    Media,
    Other,
    Poll,
    Preview,
    Reaction,
    Reference,
    Revoke,
    Text,
    pack,
    unpack,
)
from sessions_app.whatsapp.inbound import Person, ReceiptKind

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TARGET = Reference("3EB0AA", "4915100000001@s.whatsapp.net", "before")

CONTENTS: list[Content] = [
    Text("hi"),
    Text("hi @1", ("1@s.whatsapp.net",), TARGET, Preview("https://example.org", "Title", "More")),
    Media(ContentKind.DOCUMENT, "application/pdf", b"", "caption", "a.pdf", 0, 12, (), TARGET, b"\x00source"),
    Media(ContentKind.VOICE, "audio/ogg", seconds=3),
    Location(0.0, 0.0),
    ContactCard("Budi", ("628120000001",)),
    Poll("Lunch?", ("yes", "no"), 0),
    Reaction(TARGET, ""),
    Edit(TARGET, "after", ("1@s.whatsapp.net",)),
    Revoke(Reference("3EB0AA")),
    Other("pollUpdateMessage"),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content.kind.value)
def test_a_content_survives_json(content: Content) -> None:
    source = content.source if isinstance(content, Media) else b""
    assert unpack(content.kind, pack(content), source=source) == content


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content.kind.value)
def test_what_arrived_survives_the_journal(content: Content) -> None:
    person = Person("4915100000001", "77@lid")
    message = inbound.Message("3EB0", person.address, person, person, False, NOW, "Zoë 🌤", content, person.lid)
    assert inbound.load(inbound.dump(message)) == message
    assert b"\n" not in inbound.dump(message)


def test_a_receipt_survives_the_journal() -> None:
    receipt = inbound.Receipt(ReceiptKind.READ, ("a", "b"), "1@g.us", Person(), Person("2", "3@lid"), True, NOW)
    assert inbound.load(inbound.dump(receipt)) == receipt


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("text", {}), ("text", {"text": "x", "shade": "red"}), ("nonsense", {}), ("reaction", {"target": 3, "emoji": ""})],
)
def test_fields_that_do_not_fit_are_said_in_one_sentence(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"This is not the content of a {kind} message"):
        unpack(kind, fields)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("websocket not connected", "offline", True),
        ("failed to get device list: info query timed out", "no_answer", True),
        ("no LID found for 1@s.whatsapp.net from server", "not_on_whatsapp", False),
        ("server returned error 463", "restricted", False),
        ("server returned error 479", "rejected", False),
        ("server returned error 503", "refused", True),
    ],
)
def test_what_certainly_did_not_leave_is_known_as_such(error: str, code: str, retryable: bool) -> None:
    failure = outgoing.failure(error)
    assert isinstance(failure, NotSent)
    assert (failure.code, failure.retryable) == (code, retryable)


@pytest.mark.parametrize(
    "error",
    [
        "timed out waiting for message send response", "failed to send message node: write: broken pipe", "", "new",
        "websocket disconnected before message send returned response", "context deadline exceeded",
    ],
)  # fmt: skip
def test_whatever_else_goes_wrong_leaves_the_outcome_unknown(error: str) -> None:
    assert isinstance(outgoing.failure(error), Unknown)


def test_every_reason_a_message_was_not_sent_is_in_the_catalogue() -> None:
    codes = {code for _text, code, _again, _sentence in outgoing._NOT_SENT}
    codes |= {code for code, _sentence in outgoing._FINAL.values()} | {outgoing.upload_failure("").code, "refused"}
    assert codes <= set(CATALOGUE)


def test_certain_failures_are_tried_again_after_five_seconds_then_ever_later_and_not_for_ever() -> None:
    error = NotSent("no_answer", "No answer.", retryable=True)
    verdicts = [judge(error, attempts, False, NOW) for attempts in range(1, ATTEMPTS + 1)]
    assert [verdict.what for verdict in verdicts] == [Next.RETRY] * (ATTEMPTS - 1) + [Next.FAIL]
    waits = [verdict.at - NOW for verdict in verdicts[:-1]]
    assert waits[:3] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20)]
    assert waits == sorted(waits)
    assert wait(50) == timedelta(minutes=10)
    assert verdicts[-1].code == "attempts_exhausted"


def test_a_final_failure_is_not_tried_again() -> None:
    verdict = judge(NotSent("not_on_whatsapp", "Not there."), 1, True, NOW)
    assert (verdict.what, verdict.code, verdict.pause_until) == (Next.FAIL, "not_on_whatsapp", None)


@pytest.mark.parametrize(("cold", "what"), [(True, Next.RETRY), (False, Next.FAIL)])
def test_a_restriction_pauses_cold_contacts_whoever_met_it(cold: bool, what: Next) -> None:
    verdict = judge(NotSent("restricted", "Restricted.", number=463), 1, cold, NOW)
    assert verdict.what is what
    assert verdict.pause_until == NOW + timedelta(hours=24)


PAGE = """<html><head><title>Plain &amp; simple</title><meta property="og:title" content="Better  title">
<meta name="description" content="What it is about"></head><body><title>not this</title></body></html>"""


def test_a_link_preview_is_what_the_page_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(url: str, limit: int, timeout: timedelta) -> Answer:
        asked.append(url)
        return Answer(200, {}, PAGE.encode())

    monkeypatch.setattr(preview, "fetch", fetch)
    found = preview.preview_of("see https://example.org/a, and https://example.org/b")
    assert found == Preview("https://example.org/a", "Better title", "What it is about")
    assert asked == ["https://example.org/a"]
    assert preview.preview_of("http://example.org and nothing else") is None


def test_a_page_that_cannot_be_fetched_is_no_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, limit: int, timeout: timedelta) -> Answer:
        raise CallFailed("It did not answer in time.")

    monkeypatch.setattr(preview, "fetch", fetch)
    assert preview.preview_of("https://example.org") is None
    assert preview.preview_of("https://127.0.0.1/") is None
