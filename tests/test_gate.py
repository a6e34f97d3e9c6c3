"""The gate before the library's unguarded maps."""

from __future__ import annotations

import threading
import time

from sessions_app.whatsapp.gate import CALL_HEAD, Gate


def start(call: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=call, args=arguments, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_two_turns_never_overlap() -> None:
    gate, inside, worst = Gate(), [0], [0]

    def take() -> None:
        with gate.turn():
            inside[0] += 1
            worst[0] = max(worst[0], inside[0])
            time.sleep(0.002)
            inside[0] -= 1

    threads = [start(take) for _ in range(20)]
    for thread in threads:
        thread.join(5)
    assert worst[0] == 1


def test_turns_come_in_order_but_stops_come_first() -> None:
    gate, order = Gate(), list[str]()

    def take(name: str, first: bool) -> None:
        with gate.turn(first=first):
            order.append(name)

    with gate.turn():
        threads = []
        for name, first in (("start 1", False), ("start 2", False), ("stop", True)):
            threads.append(start(take, name, first))
            while len(gate._waiting) < len(threads):
                time.sleep(0.001)
    for thread in threads:
        thread.join(5)
    assert order == ["stop", "start 1", "start 2"]


def test_a_turn_waits_until_a_call_has_read_the_maps() -> None:
    gate = Gate()
    gate.call_begins()
    began = time.monotonic()
    with gate.turn():
        assert time.monotonic() - began >= CALL_HEAD * 0.8


def test_a_call_waits_while_the_maps_are_written_and_passes_while_a_start_only_dials() -> None:
    gate, called = Gate(), threading.Event()

    def call() -> None:
        gate.call_begins()
        called.set()

    with gate.turn() as turn:
        assert turn is not None
        start(call)
        assert not called.wait(0.05)
        turn.written()
        assert called.wait(5)


def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    gate = Gate()
    with gate.turn():
        with gate.turn(first=True, timeout=0.01) as second:
            assert second is None
        assert not gate._waiting
    with gate.turn(timeout=0.01) as third:
        assert third is not None
