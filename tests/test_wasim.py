"""The simulator by itself: its door, its handshake, its memory and its control. Without the client library."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.wasim import Control, Wasim, WasimClient, binary_xml, protobuf
from tests.wasim.binary_xml import Node, node
from tests.wasim.jid import Jid
from tests.wasim.keys import KeyPair, verify
from tests.wasim.noise import HEADER, ClientHandshake, FrameReader, frame

NUMBER = "6281200000001"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Wasim]:
    with Wasim(tmp_path) as sim:
        yield sim


class Client:
    """A client made of the simulator's own parts, with the keys it is given."""

    def __init__(self, sim: Wasim, noise: KeyPair, payload: bytes) -> None:
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(dial(sim))
        handshake, self._frames, self._waiting = ClientHandshake(noise), FrameReader(), list[bytes]()
        self._socket.send(HEADER + frame(handshake.hello()))
        finish, self.chain = handshake.finish(self._next(), payload)
        self._socket.send(frame(finish))
        self._read, self._write = handshake.split()

    def receive(self) -> Node:
        return binary_xml.decode(self._read.decrypt(self._next()))

    def send(self, stanza: Node) -> None:
        self._socket.send(frame(self._write.encrypt(binary_xml.encode(stanza))))

    def close(self) -> None:
        self._open.close()

    def _next(self) -> bytes:
        while not self._waiting:
            data = self._socket.recv(timeout=5)
            assert isinstance(data, bytes)
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)


def tunnel(sim: Wasim, target: str = "web.whatsapp.com:443") -> tuple[socket.socket, bytes]:
    """Return a socket after a CONNECT, and what was answered."""
    sock = socket.create_connection(("127.0.0.1", sim.port), timeout=5)
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    return sock, sock.recv(4096)


def dial(sim: Wasim) -> contextlib.AbstractContextManager[ClientConnection]:
    sock, answer = tunnel(sim)
    assert answer.startswith(b"HTTP/1.1 200")
    trusted = ssl.create_default_context(cafile=sim.environment()["SSL_CERT_FILE"])
    return connect("wss://web.whatsapp.com/ws/chat", sock=sock, ssl=trusted, proxy=None, compression=None,
                   open_timeout=180)  # fmt: skip


def unpaired() -> bytes:
    return protobuf.encode([(19, protobuf.encode([(3, bytes(32))]))])


def login(device: int = 1) -> bytes:
    return protobuf.encode([(1, int(NUMBER)), (18, device)])


def paired(sim: Wasim, noise: KeyPair) -> None:
    """Pair a client that agrees to everything."""
    client, identity, secret = Client(sim, noise, unpaired()), KeyPair.generate(), os.urandom(32)
    offer = client.receive().find("pair-device")
    assert offer is not None
    parts = [noise.public, identity.public, secret]
    text = ",".join([offer.bytes_of("ref").decode(), *(base64.b64encode(part).decode() for part in parts)])
    with ThreadPoolExecutor(1) as phone:
        outcome = phone.submit(sim.phone(NUMBER).scan, text)
        _agree(client, identity)
        assert outcome.result(5) == ""
    client.close()


def _agree(client: Client, identity: KeyPair) -> None:
    success = client.receive()
    sealed = protobuf.decode(success.bytes_of("pair-success", "device-identity"))
    signed = protobuf.decode(sealed.data(1))
    assert verify(signed.data(2), b"\x06\x00" + signed.data(1) + identity.public, signed.data(3))
    sign = node("pair-device-sign", None, node("device-identity", data=sealed.data(1)))
    client.send(node("iq", {"type": "result", "id": success["id"]}, sign))
    assert client.receive()["code"] == "515"


def test_only_one_host_is_reached(sim: Wasim) -> None:
    for target in ("example.com:443", "web.whatsapp.com:80", "127.0.0.1:22"):
        sock, answer = tunnel(sim, target)
        with sock:
            assert answer.startswith(b"HTTP/1.1 502")


def test_the_root_vouches_for_the_key_of_the_handshake(sim: Wasim) -> None:
    client = Client(sim, KeyPair.generate(), unpaired())
    chain = protobuf.decode(client.chain)
    leaf, middle = chain.message(1), chain.message(2)
    assert leaf is not None
    assert middle is not None
    assert verify(sim.server.root.public, middle.data(1), middle.data(2))
    assert verify(protobuf.decode(middle.data(1)).data(3), leaf.data(1), leaf.data(2))
    client.close()


def test_an_unpaired_client_gets_six_codes_and_a_linked_one_is_let_in(sim: Wasim) -> None:
    noise = KeyPair.generate()
    paired(sim, noise)
    client = Client(sim, noise, login())
    assert client.receive().tag == "success"
    device = sim.device(NUMBER)
    assert (device.logins, device.accepted_logins, device.live_sockets) == (1, 1, 1)
    client.close()
    assert sim.wait_for(lambda: not sim.device(NUMBER).live_sockets)


def test_other_keys_or_another_device_are_refused(sim: Wasim) -> None:
    noise = KeyPair.generate()
    paired(sim, noise)
    for keys, device in ((KeyPair.generate(), 1), (noise, 2)):
        client = Client(sim, keys, login(device))
        assert client.receive()["reason"] == "401"
        client.close()


def test_two_live_sockets_of_one_device_show_and_the_older_is_replaced(sim: Wasim) -> None:
    noise = KeyPair.generate()
    paired(sim, noise)
    older = Client(sim, noise, login())
    assert older.receive().tag == "success"
    newer = Client(sim, noise, login())
    assert newer.receive().tag == "success"
    assert older.receive().tag == "ib"
    assert older.receive().find("conflict") is not None
    device = sim.device(NUMBER)
    assert (device.max_live_sockets, device.replaced, device.live_sockets) == (2, 1, 1)
    older.close()
    newer.close()


def test_a_restarted_simulator_knows_its_devices_and_keys(tmp_path: Path) -> None:
    noise = KeyPair.generate()
    with Wasim(tmp_path) as sim:
        paired(sim, noise)
        before = {name: value for name, value in sim.environment().items() if name != "WHATSAPP_PROXY"}
    with Wasim(tmp_path) as sim:
        assert before.items() <= sim.environment().items()
        client = Client(sim, noise, login())
        assert client.receive().tag == "success"
        client.close()


@pytest.mark.parametrize("code", [401, 402, 403, 405, 408, 409, 500, 503])
def test_a_refusal_lasts_as_often_as_it_is_told(sim: Wasim, code: int) -> None:
    noise = KeyPair.generate()
    paired(sim, noise)
    sim.faults.refuse(NUMBER, code, times=1, expire=60)
    client = Client(sim, noise, login())
    failure = client.receive()
    assert (failure.tag, failure["reason"], failure["expire"]) == ("failure", str(code), "60" if code == 402 else "")
    client.close()
    client = Client(sim, noise, login())
    assert client.receive().tag == "success"
    client.close()


def test_a_network_is_broken_in_known_ways_only(sim: Wasim) -> None:
    with pytest.raises(ValueError, match="refsue"):
        sim.faults.break_network("refsue")
    sim.faults.break_network("refuse")
    sock, answer = tunnel(sim)
    sock.close()
    assert answer.startswith(b"HTTP/1.1 502")


def test_a_code_nobody_shows_cannot_be_scanned(sim: Wasim) -> None:
    with pytest.raises(ValueError, match="nobody"):
        sim.phone(NUMBER).scan("https://wa.me/settings/linked_devices#x,AA==,AA==,AA==,1")
    with pytest.raises(ValueError, match="not a WhatsApp"):
        sim.phone(NUMBER).scan("hello")
    with pytest.raises(ValueError, match="nobody"):
        sim.phone(NUMBER).enter_code("ABCD-1234")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_what_is_written_is_read_again(size: int) -> None:
    inner = node("item", {"jid": Jid("123", "lid", 4), "to": Jid("", "s.whatsapp.net"), "n": 5}, data=bytes(size))
    again = binary_xml.decode(binary_xml.encode(node("list", None, *[inner] * 3)))
    assert [child.data or b"" for child in again.children] == [bytes(size)] * 3
    assert again.children[0].jid("jid") == Jid("123", "lid", 4)
    assert again.children[0]["n"] == "5"


@pytest.mark.parametrize(
    "broken", [b"", b"\0", b"\0\xf8", b"\0\xf8\x02\xfc\x05ab", b"\x02nonsense", b"\0\xf8\x01\xff\xff"]
)
def test_a_broken_stanza_is_an_error_of_its_own(broken: bytes) -> None:
    with pytest.raises(binary_xml.BinaryXmlError):
        binary_xml.decode(broken)


# -- the control


@pytest.fixture
def control(sim: Wasim) -> Iterator[str]:
    control = Control(sim)
    yield control.start()
    control.stop()


def test_another_process_sees_and_does_the_same(sim: Wasim, control: str) -> None:
    noise = KeyPair.generate()
    paired(sim, noise)
    remote = WasimClient(control)
    assert remote.environment() == sim.environment()
    client = Client(sim, noise, login())
    assert client.receive().tag == "success"
    assert remote.wait_for(lambda: remote.device(NUMBER)["live_sockets"] == 1)
    assert remote.faults.drop(phone=NUMBER) == 1
    assert remote.wait_for(lambda: remote.device(NUMBER)["live_sockets"] == 0)
    assert remote.phone(NUMBER).devices() == [f"{NUMBER}:1@s.whatsapp.net"]
    remote.phone(NUMBER).unlink()
    assert remote.devices == {}
    client.close()


def test_what_cannot_be_done_is_told(control: str) -> None:
    remote = WasimClient(control)
    for action, arguments in (("nothing", {}), ("scan", {"phone": NUMBER}), ("faults._live", {"phone": ""}),
                              ("enter_code", {"phone": NUMBER, "code": "ABCD"}),
                              ("faults.break_network", {"how": "gently"})):  # fmt: skip
        with pytest.raises(ValueError, match="."):
            remote.call(action, **arguments)


def test_the_page_is_served_and_other_pages_cannot_act(control: str) -> None:
    with urllib.request.urlopen(control) as response:
        assert b"Phone of the simulator" in response.read()
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Host": "evil.example:80"}):
        request = urllib.request.Request(f"{control}/state", json.dumps({}).encode(), headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        refused.value.close()
        assert refused.value.code in (403, 415)
