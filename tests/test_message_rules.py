"""Templates, keywords and file types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from messaging.errors import CATALOGUE, Refused
from messaging.keywords import STALE, answerable, fits
from messaging.kinds import MEDIA, Kind
from messaging.sniff import fitting_type, sniff
from messaging.templates import TemplateError, check, fill, variables

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def first(options: Sequence[str]) -> str:
    return options[0]


def last(options: Sequence[str]) -> str:
    return options[-1]


def test_variables_are_filled_in_and_may_have_defaults() -> None:
    assert fill("Hi {{name}}, {{ city|there }}!", {"name": "Siti"}, first) == "Hi Siti, there!"
    assert fill("{{name|you}}", {"name": " "}, first) == "you"
    assert variables("{{a}} {{b|x}} {{a}} \\{{c}}") == ["a", "b"]


def test_spun_parts_are_chosen_also_inside_each_other() -> None:
    assert fill("{Hi|Good {morning|day}} {{name}}", {"name": "Siti"}, first) == "Hi Siti"
    assert fill("{Hi|Good {morning|day}} {{name}}", {"name": "Siti"}, last) == "Good day Siti"
    assert fill("{only}", {}, first) == "only"


def test_what_a_person_is_called_is_never_spun() -> None:
    assert fill("{Hi|Hello} {{name}}", {"name": "{a|b}\\ {{name}}"}, last) == "Hello {a|b}\\ {{name}}"


def test_a_backslash_takes_the_meaning_away() -> None:
    assert fill(r"\{a\|b\} \\ {x\|y|z}", {}, first) == r"{a|b} \ x|y"


@pytest.mark.parametrize("template", ["{a|b", "a}", "{a|{b}", "{" * 20 + "}" * 20])
def test_unbalanced_braces_are_said_before_anything_is_sent(template: str) -> None:
    with pytest.raises(TemplateError):
        check(template)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(TemplateError, match="“name”"):
        fill("Hi {{name}}", {}, first)
    check("Hi {{name}}")


@pytest.mark.parametrize(
    ("keyword", "match", "text", "expected"),
    [
        ("stop", "exact", " STOP! ", True), ("stop", "exact", "please stop", False),
        ("price", "word", "What is the Price?", True), ("price", "word", "priceless", False),
        ("hello", "begins", "Hello there", True), ("hello", "begins", "helloween", False),
        ("ｈｉ", "word", "hi", True), ("c++", "word", "I like C++.", True), (" ", "word", "anything", False),
    ],
)  # fmt: skip
def test_keywords(keyword: str, match: str, text: str, expected: bool) -> None:
    assert fits(keyword, match, text) is expected


def test_only_fresh_texts_of_other_people_are_answered() -> None:
    def may(kind: str = Kind.TEXT, group: bool = False, own: bool = False, age: timedelta = timedelta(0)) -> bool:
        return answerable(kind, group=group, from_our_own=own, sent_at=NOW - age, now=NOW)

    assert may()
    assert not any([may(kind=Kind.IMAGE), may(group=True), may(own=True), may(age=STALE)])


PNG, JPEG, OGG, WEBP = b"\x89PNG\r\n\x1a\n....", b"\xff\xd8\xff\xe0", b"OggS....", b"RIFF....WEBPVP8 "


@pytest.mark.parametrize(
    ("kind", "head", "expected"),
    [
        (Kind.IMAGE, PNG, "image/png"), (Kind.IMAGE, JPEG, "image/jpeg"), (Kind.IMAGE, b"<html>", ""),
        (Kind.IMAGE, WEBP, ""), (Kind.STICKER, WEBP, "image/webp"), (Kind.STICKER, PNG, ""),
        (Kind.VOICE, OGG, "audio/ogg; codecs=opus"), (Kind.VOICE, b"ID3....", ""), (Kind.AUDIO, OGG, "audio/ogg"),
        (Kind.VIDEO, b"....ftypisom", "video/mp4"), (Kind.AUDIO, b"....ftypisom", "audio/mp4"), (Kind.VIDEO, PNG, ""),
        (Kind.DOCUMENT, b"%PDF-1.7", "application/pdf"), (Kind.DOCUMENT, b"a,b", "text/csv"),
    ],
)  # fmt: skip
def test_a_file_is_what_its_bytes_say(kind: Kind, head: bytes, expected: str) -> None:
    assert fitting_type(kind, head, "text/csv; charset=utf-8") == expected


def test_every_kind_with_media_has_its_types_and_nothing_is_known_of_nothing() -> None:
    assert all(fitting_type(kind, b"", "") == "" for kind in MEDIA - {Kind.DOCUMENT})
    assert sniff(b"") == ""


def test_every_error_has_a_status_a_title_and_a_sentence_that_ends() -> None:
    for code, trouble in CATALOGUE.items():
        assert trouble.status == 0 or 400 <= trouble.status < 600, code
        assert str(trouble.title), code
        assert str(trouble.sentence).endswith("."), code
    assert Refused("media_too_large", values={"limit": 16}).sentence == "The file is larger than 16 MB."
