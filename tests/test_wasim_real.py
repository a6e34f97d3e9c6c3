"""The simulator with real clients: messages between two of them, typed codes, copies of a store."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sessions_app.whatsapp.client import Kind
from tests.contract_real import ROOT, RealSide
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


class Messenger:
    """A session in a process of its own that writes and reads."""

    def __init__(self, sim: Wasim, store: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.neonize_messenger", str(theirs.fileno())], cwd=ROOT,
                pass_fds=(theirs.fileno(),), env={**os.environ, **sim.environment()},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self.heard: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tell(store=store)

    def send(self, to: str, text: str) -> None:
        """Write, without waiting."""
        self._tell(to=to, text=text)

    def wait(self, on: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """Return the first thing of this kind that fits, waiting for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._of(on, fits), 20), self.heard
            return self._of(on, fits)[0]

    def texts(self) -> list[str]:
        """Return the texts that arrived, in order."""
        return [message["text"] for message in self._of("message", lambda _: True)]

    def close(self) -> None:
        """End the process."""
        self._socket.shutdown(socket.SHUT_WR)
        self._process.wait(10)
        self._reader.join(5)
        self._socket.close()

    def _of(self, on: str, fits: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        return [each for each in self.heard if each["on"] == on and fits(each)]

    def _tell(self, **words: str) -> None:
        self._socket.sendall(json.dumps(words).encode() + b"\n")

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines, contextlib.suppress(ConnectionError):
            for line in lines:
                with self._changed:
                    self.heard.append(json.loads(line))
                    self._changed.notify_all()


@pytest.fixture
def session(sim: Wasim, real: RealSide) -> Iterator[Callable[..., tuple[str, Messenger]]]:
    """Make sessions: returns the number and the messenger of a newly paired one, or of a store."""
    with contextlib.ExitStack() as open_ones:

        def make(number: str = "", store: str = "") -> tuple[str, Messenger]:
            number = number or str(next(_numbers))
            messenger = Messenger(sim, store or real.paired(number))
            open_ones.callback(messenger.close)
            messenger.wait("connected")
            return number, messenger

        yield make


Session = Callable[..., tuple[str, Messenger]]


def test_two_sessions_write_to_each_other(sim: Wasim, session: Session) -> None:
    (anna, hers), (ben, his) = session(), session()
    for text in ("hello", "are you there?"):
        hers.send(ben, text)
        sent = hers.wait("sent", lambda each, text=text: each["text"] == text)  # type: ignore[misc]
        assert sent["id"]
        assert not sent["error"]
        arrived = his.wait("message", lambda each, text=text: each["text"] == text)  # type: ignore[misc]
        assert (arrived["id"], arrived["sender"], arrived["mine"]) == (sent["id"], anna, False)
        assert hers.wait("receipt", lambda each, sent=sent: sent["id"] in each["ids"])  # type: ignore[misc]
    his.send(anna, "yes")
    assert hers.wait("message")["text"] == "yes"
    assert sim.wait_for(lambda: set(sim.device(ben).confirmed.values()) == {1} and not sim.device(ben).waiting)
    assert [message.id for message in sim.device(anna).messages] == list(sim.device(ben).delivered)


def test_a_message_to_a_session_that_is_away_waits_for_it(sim: Wasim, real: RealSide, session: Session) -> None:
    away = str(next(_numbers))
    real.online(away).stop()  # its keys are known to the server
    _, messenger = session()
    for text in ("one", "two"):
        messenger.send(away, text)
        messenger.wait("sent", lambda each, text=text: each["text"] == text)  # type: ignore[misc]
    assert len(sim.device(away).waiting) == 2
    _, back = session(away, real.stores[away])
    back.wait("message", lambda each: each["text"] == "two")
    assert back.texts() == ["one", "two"]


def test_another_device_of_the_sender_gets_a_copy(sim: Wasim, session: Session) -> None:
    (anna, first), (ben, his) = session(), session()
    _, second = session(anna)
    assert len(sim.phone(anna).devices()) == 2
    first.send(ben, "from the first")
    assert his.wait("message")["text"] == "from the first"
    assert second.wait("message")["mine"] is True
    his.send(anna, "to both")
    for device in (first, second):
        device.wait("message", lambda each: each["text"] == "to both")


def test_a_refused_message_is_an_error_and_is_not_delivered(sim: Wasim, session: Session) -> None:
    (anna, hers), (ben, his) = session(), session()
    sim.faults.ack_error(anna, 463)
    hers.send(ben, "refused")
    assert "463" in hers.wait("sent")["error"]
    sim.faults.ack_error(anna, None)
    hers.send(ben, "fine")
    his.wait("message")
    assert his.texts() == ["fine"]


def test_a_message_cut_off_before_its_acknowledgement_is_sent_again_and_read_once(
    sim: Wasim, session: Session
) -> None:
    (anna, hers), (ben, his) = session(), session()
    sim.faults.withhold_acks(anna)
    hers.send(ben, "did you get this?")
    arrived = his.wait("message")
    assert not [each for each in hers.heard if each["on"] == "sent"]
    sim.faults.withhold_acks(anna, False)
    sim.faults.drop(anna)
    sent = hers.wait("sent")
    assert (sent["id"], sent["error"]) == (arrived["id"], "")
    assert [message.id for message in sim.device(anna).messages] == [sent["id"]] * 2
    hers.send(ben, "good")
    his.wait("message", lambda each: each["text"] == "good")
    assert his.texts() == ["did you get this?", "good"]


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
