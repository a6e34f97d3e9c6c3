"""Connections at rest: what waits for the next look, and all that must not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from sessions_app.whatsapp import doze
from sessions_app.whatsapp.relay import Relay, Route
from sessions_app.whatsapp.tunnel import Inbound
from tests.test_relay import Echo, close_sockets, connect, receive, until

#: Seconds until the next look in tests of what must not wait for it: whoever waits has failed.
NEVER = 1000.0
KEEPALIVE, ANSWER = b"k" * 80, b"a" * 60


class Line:
    """A connection through the relay: the library's end and WhatsApp's."""

    def __init__(self, relay: Relay, echo: Echo) -> None:
        self.relay = relay
        self.route: Route = relay.open(echo.url)
        before = len(echo.connections)
        self.library, _ = connect(relay, self.route)
        self.whatsapp = echo.connections[before]
        self.whatsapp.settimeout(5)

    @property
    def dozes(self) -> bool:
        inbound = self.route.connection and self.route.connection.peer
        return isinstance(inbound, Inbound) and inbound.dozes

    def asleep(self) -> Line:
        until(lambda: self.dozes)
        return self

    def look(self) -> None:
        """Have the relay look at those that doze now."""
        assert self.relay.doze is not None
        self.relay.soon(self.relay.doze._look)


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    close_sockets()
    relay.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo(echo=False)
    yield echo
    echo.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Doze alone, and after a moment."""
    monkeypatch.setattr(doze, "_FEW", 0)
    monkeypatch.setattr(doze, "_AFTER", 0.2)
    monkeypatch.setattr(doze, "_EVERY", 0.1)
    return monkeypatch


@pytest.fixture
def never(soon: pytest.MonkeyPatch) -> None:
    """... and nobody looks."""
    soon.setattr(doze, "_EVERY", NEVER)


def test_a_keepalive_and_its_answer_pass_without_waking_the_connection(
    soon: pytest.MonkeyPatch, relay: Relay, echo: Echo
) -> None:
    line = Line(relay, echo).asleep()
    soon.setattr(doze, "_AFTER", 0)  # the next may follow at once
    for _ in range(3):
        line.library.sendall(KEEPALIVE)
        assert receive(line.whatsapp) == KEEPALIVE
        assert line.dozes
        line.whatsapp.sendall(ANSWER)
        assert receive(line.library) == ANSWER
        assert line.dozes


def test_keepalives_and_answers_wait_for_the_next_look(never: None, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo).asleep()
    line.library.sendall(KEEPALIVE)
    assert nothing(line.whatsapp)
    line.look()
    assert receive(line.whatsapp) == KEEPALIVE
    line.whatsapp.sendall(ANSWER)
    assert nothing(line.library)
    line.look()
    assert receive(line.library) == ANSWER
    assert line.dozes


def test_a_message_behind_the_answer_does_not_wait(never: None, relay: Relay, echo: Echo) -> None:
    line = asked(relay, echo)
    line.whatsapp.sendall(ANSWER)
    assert nothing(line.library)
    line.whatsapp.sendall(b"m" * 200)
    assert receive(line.library) == ANSWER + b"m" * 200
    assert not line.dozes
    line.whatsapp.sendall(b"short")
    assert receive(line.library) == b"short"


def test_the_end_behind_the_answer_does_not_wait(never: None, relay: Relay, echo: Echo) -> None:
    line = asked(relay, echo)
    line.whatsapp.sendall(ANSWER)
    line.whatsapp.close()
    assert receive(line.library) == ANSWER
    assert receive(line.library) == b""


def test_an_answer_later_than_the_next_look_does_not_wait(never: None, relay: Relay, echo: Echo) -> None:
    line = asked(relay, echo)
    line.look()
    line.whatsapp.sendall(ANSWER)
    assert receive(line.library) == ANSWER
    assert line.dozes


def asked(relay: Relay, echo: Echo) -> Line:
    """Return a dozing connection that has sent its keepalive and waits for the answer."""
    line = Line(relay, echo).asleep()
    line.library.sendall(KEEPALIVE)
    line.look()
    assert receive(line.whatsapp) == KEEPALIVE
    return line


def nothing(sock: socket.socket) -> bool:
    """Return whether nothing arrives for a moment."""
    sock.settimeout(0.3)
    try:
        sock.recv(100)
    except TimeoutError:
        sock.settimeout(5)
        return True
    return False


def test_what_whatsapp_says_by_itself_comes_at_once_and_is_answered_at_once(
    never: None, relay: Relay, echo: Echo
) -> None:
    line = Line(relay, echo).asleep()
    line.whatsapp.sendall(b"a message")
    assert receive(line.library) == b"a message"
    line.library.sendall(b"it arrived")
    assert receive(line.whatsapp) == b"it arrived"


@pytest.mark.parametrize("words", [(b"x" * 500,), (KEEPALIVE, KEEPALIVE)], ids=["long", "twice"])
def test_more_than_a_keepalive_wakes(words: tuple[bytes, ...], soon: pytest.MonkeyPatch, relay: Relay,
                                     echo: Echo) -> None:  # fmt: skip
    line = Line(relay, echo).asleep()
    soon.setattr(doze, "_AFTER", 60.0)
    line.relay.soon(setattr, line.route.connection.peer, "_said_at", 0.0)  # type: ignore[union-attr]
    for word in words:
        line.library.sendall(word)
        assert receive(line.whatsapp) == word
    assert not line.dozes


def test_a_long_answer_wakes(soon: pytest.MonkeyPatch, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo).asleep()
    soon.setattr(doze, "_AFTER", 0)
    line.library.sendall(KEEPALIVE)
    assert receive(line.whatsapp) == KEEPALIVE
    soon.setattr(doze, "_AFTER", 60.0)
    line.whatsapp.sendall(b"m" * 500)
    assert receive(line.library) == b"m" * 500
    assert not line.dozes


def test_what_the_host_asks_for_is_passed_on_at_once(never: None, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo).asleep()
    line.route.rouse()
    line.library.sendall(KEEPALIVE)
    assert receive(line.whatsapp) == KEEPALIVE
    line.whatsapp.sendall(ANSWER)
    assert receive(line.library) == ANSWER
    line.asleep()  # and then it rests again


def test_a_connection_waiting_for_its_answer_is_roused_too(never: None, relay: Relay, echo: Echo) -> None:
    line = asked(relay, echo)
    line.route.rouse()
    line.whatsapp.sendall(ANSWER)
    assert receive(line.library) == ANSWER


def test_the_end_of_a_dozing_connection_is_passed_on(soon: pytest.MonkeyPatch, relay: Relay, echo: Echo) -> None:
    one, other = Line(relay, echo).asleep(), Line(relay, echo).asleep()
    one.library.close()
    assert receive(one.whatsapp) == b""
    other.whatsapp.close()
    assert receive(other.library) == b""
    assert relay.doze is not None
    until(lambda: not (relay.doze._asleep or relay.doze._awake or relay.doze._asked))  # type: ignore[union-attr]


def test_the_last_word_of_a_dozing_connection_comes_before_its_end(
    soon: pytest.MonkeyPatch, relay: Relay, echo: Echo
) -> None:
    line = Line(relay, echo).asleep()
    line.library.sendall(KEEPALIVE)
    line.library.close()
    assert receive(line.whatsapp) == KEEPALIVE
    assert receive(line.whatsapp) == b""


def test_before_a_client_connects_again_its_earlier_end_is_passed_on(never: None, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo).asleep()
    line.library.close()
    connect(relay, line.route)
    assert receive(line.whatsapp) == b""


def test_abort_cuts_those_that_doze(never: None, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo).asleep()
    line.route.abort()
    assert receive(line.library) == b""
    assert receive(line.whatsapp) == b""


def test_few_connections_do_not_doze(soon: pytest.MonkeyPatch, relay: Relay, echo: Echo) -> None:
    soon.setattr(doze, "_FEW", 3)
    lines = [Line(relay, echo), Line(relay, echo)]
    assert relay.doze is not None
    sweep, swept = relay.doze._sweep, 0

    def counted() -> None:
        nonlocal swept
        sweep()
        swept += 1

    soon.setattr(relay.doze, "_sweep", counted)
    lines.append(Line(relay, echo))
    lines[2].library.close()
    until(lambda: swept >= 4)
    assert not any(line.dozes for line in lines)
    lines[2] = Line(relay, echo)
    for line in lines:
        line.asleep()


def test_only_connections_to_whatsapp_itself_doze(never: None, relay: Relay, echo: Echo) -> None:
    Line(relay, echo).asleep()
    sock, _ = connect(relay, relay.open(echo.url), "mmg.whatsapp.net:443")
    sock.sendall(b"a file")
    assert receive(echo.connections[1]) == b"a file"


def test_a_slow_reader_keeps_its_brake_when_roused(never: None, relay: Relay, echo: Echo) -> None:
    line = Line(relay, echo)
    line.whatsapp.setblocking(False)
    taken = fill(line)
    line.asleep()
    line.route.rouse()
    until(lambda: not line.dozes)
    assert fill(line) < 1_000_000
    received = 0
    while received < taken:
        received += len(receive(line.library))


def fill(line: Line) -> int:
    """Have WhatsApp send until nothing was taken for a moment; return the bytes that were."""
    taken, last = 0, time.monotonic()
    while time.monotonic() < last + 0.3:
        try:
            taken += line.whatsapp.send(b"x" * 65536)
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
        assert taken < 100_000_000
    return taken
