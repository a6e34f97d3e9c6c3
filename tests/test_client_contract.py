"""The client contract: the same cases on the scripted fake and on the real library with the simulator.

Left out: that codes run out by themselves (the library takes 160 s, and no hook shortens it); it is marked slow.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from sessions_app.whatsapp import device_store
from sessions_app.whatsapp.client import Kind, PairFailure, WhatsAppError
from tests.contract_real import RealSide
from tests.contract_sides import FakeSide, Side
from tests.wasim import Wasim

_numbers = count(4_915_100_000_001)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSide]:
    """One simulator and one driver for the module."""
    with Wasim(tmp_path_factory.mktemp("wasim")) as sim:
        side = RealSide(tmp_path_factory.mktemp("stores"), sim)
        yield side
        side.close()
        assert side.driver.process.returncode == 0


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "fake":
        yield FakeSide(tmp_path)
        return
    yield request.getfixturevalue("only_real")


@pytest.fixture
def only_real(real: RealSide) -> Iterator[RealSide]:
    """For cases the fake cannot have: it neither dials nor waits."""
    yield real
    real.sim.faults.clear()
    real.tune()
    assert not real.driver.ended()


@pytest.fixture
def phone() -> str:
    """A number no other test uses."""
    return str(next(_numbers))


# -- pairing


def test_a_phone_that_scans_the_code_is_paired_and_then_connects(side: Side, phone: str) -> None:
    pairing = side.pair()
    code = pairing.seen.wait(Kind.QR)
    assert set(code.detail) == {"text", "expires_at"}
    side.scan(pairing, phone)
    assert pairing.seen.wait(Kind.PAIR_SCANNED).detail["phone"] == phone
    paired = pairing.seen.wait(Kind.PAIRED).detail
    assert (paired["phone"], paired["platform"]) == (phone, "android")
    assert paired["lid"].endswith("@lid")
    assert set(paired) == {"phone", "lid", "push_name", "platform"}
    assert pairing.ask("alive")
    pairing.ask("keep")
    assert not pairing.ask("alive")
    assert sorted(path.name for path in Path(pairing.store).parent.glob(Path(pairing.store).name + "*")) == [
        Path(pairing.store).name
    ]
    client = side.connect(pairing.store)
    assert client.seen.wait(Kind.CONNECTED).detail["phone"] == phone
    client.stop()
    assert side.most_live(phone) == 1
    assert PairFailure.CHILD_DIED not in str(pairing.seen.all)


def test_a_number_gets_a_code_of_eight_characters(side: Side, phone: str) -> None:
    pairing = side.pair(phone)
    text = pairing.seen.wait(Kind.PAIR_CODE).detail["text"]
    assert (len(text), text[4]) == (9, "-")
    assert not pairing.seen.of(Kind.QR)
    pairing.ask("cancel")


def test_a_code_typed_into_the_phone_pairs_like_a_scan(side: Side, phone: str) -> None:
    pairing = side.pair(phone)
    pairing.seen.wait(Kind.PAIR_CODE)
    side.enter_code(pairing, phone)
    assert pairing.seen.wait(Kind.PAIRED).detail["phone"] == phone
    pairing.ask("keep")
    client = side.connect(pairing.store)
    assert client.seen.wait(Kind.CONNECTED).detail["phone"] == phone
    client.stop()


def test_a_refused_number_fails_the_pairing(side: Side, phone: str) -> None:
    side.refuse_codes(phone, True)
    failed = side.pair(phone).seen.wait(Kind.PAIR_FAILED)
    assert failed.detail["reason"] == PairFailure.CODE_REFUSED


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [("hmac", PairFailure.HMAC_MISMATCH), ("signature", PairFailure.SIGNATURE_MISMATCH)],
)
def test_a_phone_that_answers_wrongly_is_not_paired(side: Side, phone: str, wrong: str, reason: PairFailure) -> None:
    pairing = side.pair()
    side.scan(pairing, phone, wrong)
    assert pairing.seen.wait(Kind.PAIR_FAILED).detail["reason"] == reason
    pairing.ask("cancel")
    assert not pairing.seen.of(Kind.PAIR_SCANNED, Kind.PAIRED)
    assert not Path(pairing.store).exists()


@pytest.mark.real
@pytest.mark.parametrize(
    ("defect", "reason"),
    [("multidevice", PairFailure.NO_MULTIDEVICE), ("passkey", PairFailure.PASSKEY)],
)
def test_a_phone_that_cannot_link_devices_ends_the_pairing(
    only_real: RealSide, phone: str, defect: str, reason: PairFailure
) -> None:
    pairing = only_real.pair()
    only_real.scan(pairing, phone, defect)
    assert pairing.seen.wait(Kind.PAIR_FAILED).detail["reason"] == reason
    pairing.ask("cancel")
    assert not Path(pairing.store).exists()


@pytest.mark.real
def test_a_network_that_breaks_while_a_code_is_shown_ends_the_pairing(only_real: RealSide) -> None:
    pairing = only_real.pair()
    pairing.seen.wait(Kind.QR)
    only_real.break_network("refused")
    only_real.sim.faults.drop_all()
    failed = pairing.seen.wait(Kind.PAIR_FAILED)
    assert failed.detail["reason"] == PairFailure.NETWORK


@pytest.mark.parametrize(
    ("code", "reason"),
    [(405, PairFailure.OUTDATED), (503, PairFailure.UNEXPECTED), (401, PairFailure.UNEXPECTED)],
)
def test_a_pairing_whatsapp_refuses_fails_at_once(side: Side, code: int, reason: PairFailure) -> None:
    side.refuse_pairing(code)
    assert side.pair().seen.wait(Kind.PAIR_FAILED).detail["reason"] == reason


def test_a_pairing_without_a_network_fails_at_once(side: Side) -> None:
    side.break_network("refused")
    assert side.pair().seen.wait(Kind.PAIR_FAILED).detail["reason"] == PairFailure.NETWORK


def test_a_cancelled_pairing_leaves_nothing_and_says_nothing(side: Side) -> None:
    pairing = side.pair()
    pairing.seen.wait(Kind.QR)
    pairing.ask("cancel")
    pairing.ask("cancel")
    assert not pairing.ask("alive")
    assert pairing.seen.kinds() == ["qr"]
    assert not Path(pairing.store).exists()


def test_a_refused_phone_is_unlinked(side: Side, phone: str) -> None:
    pairing = side.pair()
    side.scan(pairing, phone)
    pairing.seen.wait(Kind.PAIRED)
    pairing.ask("unlink")
    assert not pairing.ask("alive")
    assert not Path(pairing.store).exists()


@pytest.mark.slow
@pytest.mark.real
def test_codes_that_run_out_fail_the_pairing(real: RealSide) -> None:
    pairing = real.pair()
    failed = pairing.seen.wait(Kind.PAIR_FAILED, timeout=200)
    assert failed.detail["reason"] == PairFailure.TIMEOUT
    assert len(pairing.seen.of(Kind.QR)) == 6


# -- a running client


def test_a_dropped_connection_comes_back(side: Side, phone: str) -> None:
    client = side.online(phone)
    side.drop(phone)
    client.seen.wait(Kind.CONNECTED, nth=2)
    assert client.seen.kinds() == ["connected", "disconnected", "connected"]
    client.stop()


@pytest.mark.parametrize("code", [503, 516])
def test_a_stream_error_is_told_and_the_client_comes_back(side: Side, phone: str, code: int) -> None:
    client = side.online(phone)
    side.stream_error(phone, code)
    client.seen.wait(Kind.CONNECTED, nth=2)
    assert [seen.code for seen in client.seen.of(Kind.STREAM_ERROR)] == [code]
    assert sorted(client.seen.kinds()) == ["connected", "connected", "disconnected", "stream_error"]
    client.stop()


def test_a_second_client_with_the_same_keys_replaces_the_first(side: Side, phone: str) -> None:
    first = side.online(phone)
    second = side.connect(first.store)
    replaced = first.seen.end()
    assert (replaced.kind, replaced.code) == (Kind.REPLACED, 440)
    first.stop()
    second.seen.wait(Kind.CONNECTED)
    assert second.probe()
    second.stop()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, Kind.LOGGED_OUT),
        (403, Kind.LOGGED_OUT),
        (402, Kind.BANNED),
        (405, Kind.OUTDATED),
        (408, Kind.CONNECT_FAILED),
        (409, Kind.CONNECT_FAILED),
        (500, Kind.CONNECT_FAILED),
        (503, Kind.CONNECT_FAILED),
    ],
)
def test_a_refused_log_in_ends_the_client_once(side: Side, phone: str, code: int, kind: Kind) -> None:
    store = side.paired(phone)
    side.refuse(phone, code)
    client = side.connect(store)
    end = client.seen.end()
    assert (end.kind, end.code) == (kind, code)
    assert not client.probe()
    if kind is Kind.LOGGED_OUT:
        assert end.detail["on_connect"] is True
        until = time.monotonic() + 30  # the library deletes the keys a moment after it has said so
        while side.name == "real" and device_store.holds_device(store) and time.monotonic() < until:
            time.sleep(0.05)
    if kind is Kind.BANNED:
        assert end.detail["reason"] == 101
        assert end.detail["expires_at"] > end.at.isoformat()
    client.stop()
    assert len(client.seen.of(kind)) == 1
    side.refuse(phone, None)
    again = side.connect(store)
    if kind is Kind.LOGGED_OUT:  # the library has deleted the keys
        assert again.seen.end().kind is Kind.LOGGED_OUT
    else:
        again.seen.wait(Kind.CONNECTED)
    again.stop()


def test_a_device_removed_on_the_phone_is_logged_out(side: Side, phone: str) -> None:
    client = side.online(phone)
    side.remove_device(phone)
    end = client.seen.end()
    assert (end.kind, end.code) == (Kind.LOGGED_OUT, 401)
    client.stop()


def test_logging_out_unlinks_the_device(side: Side, phone: str) -> None:
    client = side.online(phone)
    client.ask("logout")
    client.stop()
    again = side.connect(client.store)
    assert again.seen.end().kind is Kind.LOGGED_OUT
    again.stop()


def test_logging_out_while_offline_is_refused_and_deletes_nothing(side: Side, phone: str) -> None:
    client = side.online(phone)
    client.stop()
    with pytest.raises(WhatsAppError):
        client.ask("logout")
    again = side.connect(client.store)
    again.seen.wait(Kind.CONNECTED)
    again.stop()


def test_a_silent_server_fails_the_probe_in_time(side: Side, phone: str) -> None:
    client = side.online(phone)
    assert client.probe()
    side.silence(phone, True)
    began = time.monotonic()
    assert not client.probe(0.5)
    assert not client.probe(0.5)
    assert time.monotonic() - began < 2
    assert client.ask("silent_for") > 0.4
    side.silence(phone, False)
    client.stop()


@pytest.mark.real
def test_a_lost_connection_told_of_too_late_does_not_end_the_one_that_followed(
    only_real: RealSide, phone: str
) -> None:
    client = only_real.online(phone)
    only_real.driver.ask("turn_round")
    only_real.sim.faults.drop(phone)
    client.seen.wait(Kind.CONNECTED, nth=2)
    assert only_real.driver.ask("turned_round")
    assert client.seen.kinds() == ["connected", "connected"]
    assert client.probe()
    only_real.sim.faults.drop(phone)  # in order again
    client.seen.wait(Kind.CONNECTED, nth=3)
    assert client.seen.kinds() == ["connected", "connected", "disconnected", "connected"]
    client.stop()


def test_without_a_network_a_start_fails_at_once(side: Side, phone: str) -> None:
    store = side.paired(phone)
    side.break_network("refused")
    client = side.connect(store)
    end = client.seen.end()
    assert (end.kind, end.code) == (Kind.CONNECT_FAILED, 408)
    client.stop()


def test_a_dead_proxy_is_named_without_its_password(side: Side, phone: str) -> None:
    client = side.connect(side.paired(phone), side.dead_proxy())
    end = client.seen.end()
    assert (end.kind, end.code, end.detail["reason"]) == (Kind.CONNECT_FAILED, 408, "proxy_unreachable")
    assert "secret" not in str(end)
    client.stop()


def test_nothing_is_observed_after_a_stop(side: Side, phone: str) -> None:
    client = side.online(phone)
    client.stop()
    client.stop()
    again = side.connect(client.store)
    again.seen.wait(Kind.CONNECTED)
    assert client.seen.kinds() == ["connected"]
    assert not client.probe()
    again.stop()


# -- what only the real library can get wrong


@pytest.mark.real
def test_a_black_holed_network_is_given_up_in_time(only_real: RealSide, phone: str) -> None:
    store = only_real.paired(phone)
    only_real.tune(dial=1)
    only_real.break_network("blackhole")
    began = time.monotonic()
    client = only_real.connect(store)
    assert client.seen.end().detail["reason"] == "proxy_timeout"
    assert time.monotonic() - began < 4


@pytest.mark.real
def test_a_server_that_never_finishes_the_handshake_is_given_up_in_time(only_real: RealSide, phone: str) -> None:
    store = only_real.paired(phone)
    only_real.tune(sign_of_life=1)
    only_real.break_network("mute")
    began = time.monotonic()
    client = only_real.connect(store)
    assert client.seen.end().detail["reason"] == "no_answer"
    client.stop()
    assert time.monotonic() - began < 4


@pytest.mark.real
def test_a_stop_does_not_wait_for_a_dial_that_hangs(only_real: RealSide, phone: str) -> None:
    client = only_real.online(phone)
    only_real.break_network("blackhole")
    only_real.drop(phone)
    client.seen.wait(Kind.DISCONNECTED)
    began = time.monotonic()
    client.stop()
    assert time.monotonic() - began < 5


@pytest.mark.real
def test_a_client_of_a_store_that_is_gone_dies(only_real: RealSide) -> None:
    client = only_real.connect(only_real.new_store())
    assert client.seen.end().kind is Kind.CLIENT_DIED
    client.stop()


@pytest.mark.real
def test_a_client_whose_store_cannot_be_prepared_does_not_start_until_it_can(only_real: RealSide, phone: str) -> None:
    store = only_real.paired(phone)
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = only_real.connect(store)
        end = refused.seen.end()
    assert (end.kind, refused.seen.of(Kind.CONNECTED)) == (Kind.CLIENT_DIED, [])
    assert "cannot be prepared: database is locked" in end.detail["error"]
    refused.stop()
    client = only_real.connect(store)
    client.seen.wait(Kind.CONNECTED)
    client.stop()


@pytest.mark.real
def test_while_another_client_keeps_winning_every_start_is_replaced(only_real: RealSide, phone: str) -> None:
    client = only_real.online(phone)
    only_real.sim.faults.conflict(phone, True)
    for _ in range(2):
        assert client.seen.end().kind is Kind.REPLACED
        client.stop()
        client = only_real.connect(client.store)
    assert client.seen.end().kind is Kind.REPLACED
    client.stop()
    only_real.sim.faults.conflict(phone, False)
    client = only_real.connect(client.store)
    client.seen.wait(Kind.CONNECTED)
    client.stop()


@pytest.mark.real
def test_a_reconnect_whatsapp_asks_for_is_no_failure(only_real: RealSide, phone: str) -> None:
    client = only_real.online(phone)
    only_real.stream_error(phone, 515)
    client.seen.wait(Kind.CONNECTED, nth=2)
    assert client.seen.kinds() == ["connected", "connected"]
    assert client.probe()
    client.stop()


@pytest.mark.real
def test_slow_answers_are_waited_for(only_real: RealSide, phone: str) -> None:
    store = only_real.paired(phone)
    only_real.sim.faults.delay(0.3)
    client = only_real.connect(store)
    client.seen.wait(Kind.CONNECTED)
    assert client.probe(5)
    client.stop()


@pytest.mark.slow
@pytest.mark.real
def test_a_silent_server_is_noticed_by_the_keep_alive(real: RealSide, phone: str) -> None:
    client = real.online(phone)
    real.silence(phone, True)
    assert client.seen.wait(Kind.KEEPALIVE_TIMEOUT, timeout=45).detail["count"] == 1
    assert client.seen.wait(Kind.KEEPALIVE_TIMEOUT, nth=2, timeout=45).detail["count"] == 2
    real.silence(phone, False)
    client.seen.wait(Kind.KEEPALIVE_RESTORED, timeout=45)
    client.stop()


@pytest.mark.real
def test_a_killed_process_leaves_its_stores_usable(real: RealSide, tmp_path: Path) -> None:
    phones = [str(next(_numbers)) for _ in range(4)]
    doomed = RealSide(tmp_path, real.sim)
    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(doomed.online, phones))
    starting = doomed.new_subject(clients[0].store)
    starting.begin("connect", store=starting.store, proxy="")
    doomed.driver.kill()
    for client in clients:
        with contextlib.closing(sqlite3.connect(client.store)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for phone, client in zip(phones, clients, strict=True):
        again = real.connect(client.store)
        assert again.seen.wait(Kind.CONNECTED).detail["phone"] == phone
        again.stop()


@pytest.mark.real
def test_twenty_clients_started_at_once_all_connect(only_real: RealSide) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(only_real.paired, [str(next(_numbers)) for _ in range(20)]))
    subjects = [only_real.new_subject(store) for store in stores]
    starts = [subject.begin("connect", store=subject.store, proxy="") for subject in subjects]
    for number in starts:
        only_real.driver.answer(number)
    for subject in subjects:
        subject.seen.wait(Kind.CONNECTED)
    asked = [subject.begin("probe", seconds=10) for subject in subjects[:10]]
    stops = [subject.begin("stop") for subject in subjects[10:]]
    assert all(only_real.driver.answer(number) for number in asked)
    for number in stops:
        only_real.driver.answer(number)
    for subject in subjects[:10]:
        subject.stop()
