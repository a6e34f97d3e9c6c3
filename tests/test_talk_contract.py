"""The talking part of the client contract: the same cases on the fake and on the real library with the simulator."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from sessions_app.whatsapp.client import NotSent, Typing, WhatsAppError
from sessions_app.whatsapp.contents import (
    MEDIA,
    ContactCard,
    Content,
    ContentKind,
    Edit,
    Location,
    Media,
    Poll,
    Reaction,
    Reference,
    Revoke,
    Text,
    pack,
    unpack,
)
from sessions_app.whatsapp.inbound import Person, Receipt, ReceiptKind
from tests.contract_real import RealSide
from tests.contract_sides import FakeSide, Side, Subject
from tests.wasim import Wasim

_numbers = count(4_916_100_000_001)

TYPES = {
    ContentKind.IMAGE: "image/jpeg", ContentKind.VIDEO: "video/mp4", ContentKind.AUDIO: "audio/mpeg",
    ContentKind.VOICE: "audio/ogg; codecs=opus", ContentKind.DOCUMENT: "application/pdf",
    ContentKind.STICKER: "image/webp",
}  # fmt: skip


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


def write_at_once(hers: Subject, anna: str, his: Subject, ben: str, number: int = 150) -> None:
    """Have two strangers talk at the same time; everything must arrive, and be read at once.

    Of 300 messages the bare library loses about 10, and of the first 10 it cannot read about 3.
    """
    texts = [f"number {n}" for n in range(number)]

    def write(subject: Subject, to: str) -> None:
        for text in texts:
            subject.send(to, Text(text))

    with ThreadPoolExecutor() as pool:
        for writing in [pool.submit(write, hers, ben), pool.submit(write, his, anna)]:
            writing.result()
    for subject in (hers, his):
        subject.heard.message(number)
        assert [message.content for message in subject.heard.messages] == [Text(text) for text in texts]
        assert not [each for each in subject.heard.all if isinstance(each, Receipt) and each.kind is ReceiptKind.RETRY]


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


def test_two_who_write_at_the_same_time_lose_nothing(pair: Pair) -> None:
    write_at_once(pair.hers, address(pair.anna), pair.his, address(pair.ben))


@pytest.mark.parametrize("kind", sorted(MEDIA))
def test_a_file_of_each_kind_arrives_byte_for_byte(pair: Pair, kind: ContentKind) -> None:
    data, mime = os.urandom(70_001), TYPES[kind]
    captioned = kind in (ContentKind.IMAGE, ContentKind.VIDEO, ContentKind.DOCUMENT)
    named = "laporan.pdf" if kind is ContentKind.DOCUMENT else ""
    media = Media(kind, mime, data, "lihat ini" if captioned else "", named)
    sent = pair.hers.send(address(pair.ben), media)
    message = pair.his.heard.message()
    assert message.id == sent.id
    found = message.content
    assert isinstance(found, Media)
    assert (found.kind, found.mime, found.size) == (kind, mime, len(data))
    assert (found.caption, found.filename) == (media.caption, named)
    assert pair.his.talk("download", source=found.source) == data


def test_a_file_that_is_not_there_is_said_to_be_missing(pair: Pair) -> None:
    with pytest.raises(WhatsAppError):
        pair.hers.talk("download", source=b"nothing")


@pytest.mark.parametrize("hidden", [False, True])
def test_a_group_hears_what_one_of_it_writes_and_the_writer_hears_who_got_it(
    side: Side, pair: Pair, hidden: bool
) -> None:
    carla = str(next(_numbers))
    hers = side.online(carla)
    group = side.make_group(f"1203630{next(_numbers)}", "Kantor", [pair.anna, pair.ben, carla], hidden)
    sent = pair.hers.send(group, Text("to all"))
    for subject in (pair.his, hers):
        message = subject.heard.message()
        assert (message.id, message.chat, message.content) == (sent.id, group, Text("to all"))
        assert (message.sender.phone, message.peer, message.from_me) == (pair.anna, Person(), False)
        assert message.written_as == (message.sender.lid if hidden else address(pair.anna))
    assert pair.hers.heard.receipt(sent.id, ReceiptKind.DELIVERED).chat == group
    pair.his.talk("mark_read", chat=group, sender=message.written_as, ids=[sent.id])
    receipt = pair.hers.heard.receipt(sent.id, ReceiptKind.READ)
    assert (receipt.chat, receipt.sender.phone) == (group, pair.ben)
    pair.his.send(group, Text("heard", reply_to=Reference(sent.id, message.written_as, "to all")))
    answer = pair.hers.heard.message()
    assert (answer.chat, answer.sender.phone) == (group, pair.ben)
    pair.his.send(group, Reaction(Reference(sent.id, message.written_as), "👍"))
    reaction = pair.hers.heard.message(2).content
    assert isinstance(reaction, Reaction)
    assert reaction.target.id == sent.id
    hers.stop()


def test_groups_are_listed_and_described(side: Side, pair: Pair) -> None:
    group = side.make_group(f"1203630{next(_numbers)}", "Kantor", [pair.anna, pair.ben])
    [listed] = pair.his.talk("groups")
    described = pair.his.talk("group", address=group)
    assert (listed.address, listed.name) == (described.address, described.name) == (group, "Kantor")
    assert described.owner.phone == pair.anna
    assert {(member.person.phone, member.admin) for member in described.members} == {
        (pair.anna, True), (pair.ben, False),
    }  # fmt: skip
    assert all(member.person.lid.endswith("@lid") for member in described.members)


def test_a_group_one_is_not_in_is_refused(pair: Pair) -> None:
    with pytest.raises(NotSent) as error:
        pair.hers.send("120363099999999999@g.us", Text("never"))
    assert error.value.code == "group_unavailable"
    with pytest.raises(WhatsAppError):
        pair.hers.talk("group", address="120363099999999999@g.us")


def test_a_number_without_whatsapp_is_known_as_such(side: Side, pair: Pair) -> None:
    nobody = str(next(_numbers))
    side.absent(nobody)
    found = pair.hers.talk("lookup", phones=[pair.ben, nobody])
    assert [(each.phone, each.on_whatsapp) for each in found] == [(pair.ben, True), (nobody, False)]
    assert found[0].person.address == address(pair.ben)
    error = refused(pair.hers, address(nobody))
    assert (error.code, error.retryable) == ("not_on_whatsapp", False)


def test_a_profile_picture_is_found_where_there_is_one(side: Side, pair: Pair) -> None:
    assert pair.hers.talk("picture", address=address(pair.ben)) is None
    side.set_picture(pair.ben, "https://pps.example.org/1.jpg")
    assert pair.hers.talk("picture", address=address(pair.ben)).url == "https://pps.example.org/1.jpg"


def test_typing_is_shown(side: Side, pair: Pair) -> None:
    pair.hers.talk("typing", chat=address(pair.ben), state=Typing.COMPOSING)
    pair.hers.talk("typing", chat=address(pair.ben), state=Typing.PAUSED)
    deadline = time.monotonic() + 10
    while side.chat_states(pair.anna) != ["composing", "paused"]:
        assert time.monotonic() < deadline, side.chat_states(pair.anna)
        time.sleep(0.02)


class Dozing(Pair):
    """Two connected accounts whose connections doze."""

    def asleep(self) -> Dozing:
        deadline = time.monotonic() + 30
        while not (self.hers.ask("dozes") and self.his.ask("dozes")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self


@pytest.fixture
def alone(tmp_path: Path, sim: Wasim) -> Iterator[RealSide]:
    side = RealSide(tmp_path, sim)
    yield side
    side.close()


@pytest.mark.real
def test_messages_and_receipts_do_not_wait_while_connections_doze(alone: RealSide) -> None:
    """Nobody looks at a dozing connection within this test: whatever waited for that would not arrive."""
    alone.doze(0, 1, 1000)
    pair = Dozing(alone).asleep()
    sent = pair.hers.send(address(pair.ben), Text("while both doze"))
    assert pair.his.heard.message().content == Text("while both doze")
    pair.hers.heard.receipt(sent.id, ReceiptKind.DELIVERED)
    pair.asleep()
    assert pair.his.probe(10)
    pair.stop()


@pytest.mark.slow
@pytest.mark.real
def test_keepalives_are_answered_while_connections_doze(alone: RealSide) -> None:
    alone.doze(0, 1, 0.5)
    pair = Dozing(alone).asleep()
    devices = [alone.sim.device(pair.anna), alone.sim.device(pair.ben)]
    before = [device.keepalives for device in devices]
    deadline = time.monotonic() + 90
    while not all(device.keepalives >= one + 2 for device, one in zip(devices, before, strict=True)):
        assert time.monotonic() < deadline, [device.keepalives for device in devices]
        assert pair.hers.ask("dozes")
        assert pair.his.ask("dozes")
        time.sleep(0.1)
    assert {*pair.hers.seen.kinds(), *pair.his.seen.kinds()} == {"connected"}
    pair.stop()


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
