"""The talking part of the client contract: the same cases on the fake and on the real library with the simulator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from sessions_app.whatsapp.client import NotSent, WhatsAppError
from sessions_app.whatsapp.contents import (
    ContactCard,
    Content,
    Edit,
    Location,
    Poll,
    Reaction,
    Reference,
    Revoke,
    Text,
    pack,
    unpack,
)
from sessions_app.whatsapp.inbound import ReceiptKind
from tests.contract_real import RealSide
from tests.contract_sides import FakeSide, Side, Subject
from tests.wasim import Wasim

_numbers = count(4_916_100_000_001)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, sim: Wasim) -> Iterator[RealSide]:
    side = RealSide(tmp_path_factory.mktemp("stores"), sim)
    yield side
    side.close()
    assert side.driver.process.returncode == 0


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "fake":
        yield FakeSide(tmp_path)
        return
    found: RealSide = request.getfixturevalue("real")
    yield found
    found.sim.faults.clear()
    assert not found.driver.ended()


class Pair:
    """Two connected accounts."""

    def __init__(self, side: Side) -> None:
        self.anna, self.ben = (f"{next(_numbers)}" for _ in range(2))
        self.hers, self.his = side.online(self.anna), side.online(self.ben)

    def stop(self) -> None:
        for subject in (self.hers, self.his):
            subject.stop()


@pytest.fixture
def pair(side: Side) -> Iterator[Pair]:
    pair = Pair(side)
    yield pair
    pair.stop()


def address(phone: str) -> str:
    return f"{phone}@s.whatsapp.net"


def test_a_text_arrives_with_its_sender_and_is_confirmed(pair: Pair) -> None:
    sent = pair.hers.send(address(pair.ben), Text("Selamat pagi 🌤"))
    message = pair.his.heard.message()
    assert (message.id, message.content, message.from_me) == (sent.id, Text("Selamat pagi 🌤"), False)
    assert message.chat == address(pair.anna)
    assert message.peer == message.sender
    assert message.sender.phone == pair.anna
    assert message.sender.lid.endswith("@lid")
    assert abs((message.at - sent.at).total_seconds()) < 5
    assert abs(message.at.timestamp() - time.time()) < 60
    receipt = pair.hers.heard.receipt(sent.id, ReceiptKind.DELIVERED)
    assert (receipt.chat, receipt.sender.phone, receipt.by_me) == (address(pair.ben), pair.ben, False)


def test_a_read_message_is_told_to_its_sender(pair: Pair) -> None:
    sent = pair.hers.send(address(pair.ben), Text("read me"))
    message = pair.his.heard.message()
    pair.his.talk("mark_read", chat=message.chat, sender=message.sender.address, ids=[message.id])
    receipt = pair.hers.heard.receipt(sent.id, ReceiptKind.READ)
    assert (receipt.chat, receipt.peer.phone) == (address(pair.ben), pair.ben)


def test_every_kind_without_a_file_arrives_as_it_was_sent(pair: Pair) -> None:
    first = pair.hers.send(address(pair.ben), Text("first"))
    mine, theirs = Reference(first.id), Reference(first.id, address(pair.anna))
    contents: list[tuple[Content, Content | None]] = [
        (Text("look @" + pair.ben, (address(pair.ben),), Reference(first.id, address(pair.anna), "first")), None),
        (Location(0.0, -6.2, "Kantor", "Jl. Sudirman"), None),
        (Poll("Lunch?", ("yes", "no"), 0), None),
        (Reaction(mine, "👍"), Reaction(theirs, "👍")),
        (Reaction(mine, ""), Reaction(theirs, "")),
        (Edit(mine, "first, corrected"), Edit(theirs, "first, corrected")),
        (Revoke(mine), Revoke(theirs)),
    ]
    for number, (content, other_side) in enumerate(contents, start=2):
        pair.hers.send(address(pair.ben), content)
        assert pair.his.heard.message(number).content == (other_side or content)
        assert unpack(content.kind, pack(content)) == content
    pair.hers.send(address(pair.ben), ContactCard("Budi; Santoso", ("628120000001", "628120000002")))
    card = pair.his.heard.message(len(contents) + 2).content
    assert isinstance(card, ContactCard)
    assert (card.name, card.phones) == ("Budi; Santoso", ("628120000001", "628120000002"))


def test_a_reaction_of_the_reader_points_at_the_writers_message(pair: Pair) -> None:
    sent = pair.hers.send(address(pair.ben), Text("nice?"))
    message = pair.his.heard.message()
    pair.his.send(message.chat, Reaction(Reference(message.id, message.sender.address), "❤"))
    assert pair.hers.heard.message().content == Reaction(Reference(sent.id), "❤")


def test_messages_to_somebody_away_wait_for_them_in_order(side: Side, pair: Pair) -> None:
    pair.his.stop()
    texts = [f"number {number}" for number in range(5)]
    for text in texts:
        pair.hers.send(address(pair.ben), Text(text))
    back = side.connect(pair.his.store)
    back.heard.message(5)
    assert [message.content for message in back.heard.messages] == [Text(text) for text in texts]
    back.stop()


def refused(subject: Subject, chat: str) -> NotSent:
    with pytest.raises(NotSent) as error:
        subject.send(chat, Text("never"))
    return error.value


def test_a_stopped_client_certainly_sends_nothing(pair: Pair) -> None:
    pair.hers.stop()
    error = refused(pair.hers, address(pair.ben))
    assert (error.code, error.retryable) == ("offline", True)
    with pytest.raises(WhatsAppError):
        pair.hers.talk("groups")


@pytest.mark.parametrize("wrong", ["", "ben", "@s.whatsapp.net", "12@example.org", "1 2@s.whatsapp.net"])
def test_an_address_that_is_none_is_refused(pair: Pair, wrong: str) -> None:
    error = refused(pair.hers, wrong)
    assert (error.code, error.retryable) == ("bad_address", False)


@pytest.mark.parametrize(("number", "code"), [(463, "restricted"), (479, "rejected")])
def test_a_message_whatsapp_refuses_is_not_sent(side: Side, pair: Pair, number: int, code: str) -> None:
    side.refuse_messages(pair.anna, number)
    error = refused(pair.hers, address(pair.ben))
    assert (error.code, error.number, error.retryable) == (code, number, False)
    side.refuse_messages(pair.anna, None)
    pair.hers.send(address(pair.ben), Text("fine"))
    assert pair.his.heard.message().content == Text("fine")
