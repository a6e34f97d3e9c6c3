"""The simulator with real clients: messages between two of them, typed codes, copies of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from sessions_app.whatsapp.client import Kind, NotSent
from sessions_app.whatsapp.contents import Text
from sessions_app.whatsapp.inbound import ReceiptKind
from tests.contract_real import RealSide, RealSubject
from tests.contract_sides import Subject
from tests.wasim import Control, Wasim, WasimClient
from tests.wasim.clone import clone_device

pytestmark = pytest.mark.real

_numbers = count(6_281_300_000_001)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wasim]:
    with Wasim(tmp_path_factory.mktemp("wasim")) as sim:
        yield sim


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, sim: Wasim) -> Iterator[RealSide]:
    side = RealSide(tmp_path_factory.mktemp("stores"), sim)
    yield side
    side.close()


@pytest.fixture(autouse=True)
def _mended(sim: Wasim) -> Iterator[None]:
    yield
    sim.faults.clear()


@pytest.fixture
def session(real: RealSide) -> Iterator[Session]:
    """Make sessions: returns the number and the client of a newly paired one, or of a store."""
    clients: list[Subject] = []

    def make(number: str = "", store: str = "") -> tuple[str, RealSubject]:
        number = number or str(next(_numbers))
        client = real.connect(store or real.paired(number))
        assert isinstance(client, RealSubject)
        clients.append(client)
        client.seen.wait(Kind.CONNECTED)
        return number, client

    yield make
    for client in clients:
        client.stop()


Session = Callable[..., tuple[str, RealSubject]]


def address(number: str) -> str:
    return f"{number}@s.whatsapp.net"


def texts(client: Subject) -> list[str]:
    return [message.content.text for message in client.heard.messages if isinstance(message.content, Text)]


def test_two_sessions_write_to_each_other(sim: Wasim, session: Session) -> None:
    (anna, hers), (ben, his) = session(), session()
    for nth, text in enumerate(("hello", "are you there?"), start=1):
        sent = hers.send(address(ben), Text(text))
        arrived = his.heard.message(nth)
        assert (arrived.id, arrived.sender.phone, arrived.from_me) == (sent.id, anna, False)
        hers.heard.receipt(sent.id, ReceiptKind.DELIVERED)
    his.send(address(anna), Text("yes"))
    assert hers.heard.message().content == Text("yes")
    assert sim.wait_for(lambda: set(sim.device(ben).confirmed.values()) == {1} and not sim.device(ben).waiting)
    assert [message.id for message in sim.device(anna).messages] == list(sim.device(ben).delivered)


def test_a_message_to_a_session_that_is_away_waits_for_it(sim: Wasim, real: RealSide, session: Session) -> None:
    away = str(next(_numbers))
    real.online(away).stop()  # its keys are known to the server
    _, client = session()
    for text in ("one", "two"):
        client.send(address(away), Text(text))
    assert len(sim.device(away).waiting) == 2
    _, back = session(away, real.stores[away])
    back.heard.message(2)
    assert texts(back) == ["one", "two"]


def test_another_device_of_the_sender_gets_a_copy(sim: Wasim, session: Session) -> None:
    (anna, first), (ben, his) = session(), session()
    _, second = session(anna)
    assert len(sim.phone(anna).devices()) == 2
    first.send(address(ben), Text("from the first"))
    assert his.heard.message().content == Text("from the first")
    copy = second.heard.message()
    assert (copy.from_me, copy.chat, copy.content) == (True, address(ben), Text("from the first"))
    his.send(address(anna), Text("to both"))
    assert first.heard.message().content == Text("to both")
    assert second.heard.message(2).content == Text("to both")


def test_a_refused_message_is_not_delivered(sim: Wasim, session: Session) -> None:
    (anna, hers), (ben, his) = session(), session()
    sim.faults.ack_error(anna, 463)
    with pytest.raises(NotSent):
        hers.send(address(ben), Text("refused"))
    sim.faults.ack_error(anna, None)
    hers.send(address(ben), Text("fine"))
    his.heard.message()
    assert texts(his) == ["fine"]


def test_a_message_cut_off_before_its_acknowledgement_is_sent_again_and_read_once(
    sim: Wasim, session: Session
) -> None:
    (anna, hers), (ben, his) = session(), session()
    sim.faults.withhold_acks(anna)
    sending = hers.begin_send(address(ben), Text("did you get this?"))
    arrived = his.heard.message()
    sim.faults.withhold_acks(anna, False)
    sim.faults.drop(anna)
    sent = hers.sent(sending)
    assert sent.id == arrived.id
    assert [message.id for message in sim.device(anna).messages] == [sent.id] * 2
    hers.seen.wait(Kind.CONNECTED, nth=2)
    hers.send(address(ben), Text("good"))
    his.heard.message(2)
    assert texts(his) == ["did you get this?", "good"]


def test_a_wrong_code_links_nothing(sim: Wasim, real: RealSide) -> None:
    number = str(next(_numbers))
    pairing = real.pair(number)
    pairing.seen.wait(Kind.PAIR_CODE)
    assert sim.phone(number).enter_code("WRNG-C0DE") == "the code was wrong"
    assert not sim.phone(number).devices()
    pairing.ask("cancel")


def test_a_code_is_scanned_through_the_control_of_another_process(sim: Wasim, real: RealSide) -> None:
    control = Control(sim)
    phone = WasimClient(control.start()).phone(str(next(_numbers)))
    pairing = real.pair()
    text = pairing.seen.wait(Kind.QR).detail["text"]
    assert phone.scan(text) == ""
    assert pairing.seen.wait(Kind.PAIRED).detail["phone"] == phone.number
    assert phone.devices() == [f"{phone.number}:1@s.whatsapp.net"]
    with pytest.raises(ValueError, match="nobody"):
        phone.scan(text)
    pairing.ask("keep")
    control.stop()


def test_copies_of_a_store_log_in_as_other_numbers(sim: Wasim, real: RealSide, tmp_path: Path) -> None:
    original = real.paired(str(next(_numbers)))
    numbers = [str(next(_numbers)) for _ in range(5)]
    copies = [tmp_path / f"{number}.db" for number in numbers]
    for number, copy in zip(numbers, copies, strict=True):
        clone_device(sim, Path(original), copy, number)
    clients = [real.connect(str(copy)) for copy in copies]
    for number, client in zip(numbers, clients, strict=True):
        detail = client.seen.wait(Kind.CONNECTED).detail
        assert (detail["phone"], detail["lid"]) == (number, f"{sim.device(number).lid.user}@lid")
        assert client.probe()
        client.stop()
    assert [sim.most_live(number) for number in numbers] == [1] * 5


def test_a_client_finds_its_simulator_again_after_a_restart(tmp_path: Path) -> None:
    number, store = str(next(_numbers)), ""
    for _ in range(2):
        with Wasim(tmp_path / "wasim") as sim:
            side = RealSide(tmp_path, sim)
            store = store or side.paired(number)
            client = side.connect(store)
            assert client.seen.wait(Kind.CONNECTED).detail["phone"] == number
            client.stop()
            side.close()
