"""What the guard remembers of a program, and how a crash loop is capped."""

from __future__ import annotations

from waserver.program_record import LOOP, REST, REST_CAP, STABLE, Record


def crashed(record: Record, at: float) -> None:
    record.saw("starting", at)
    record.saw("running", at + 1, 42)
    record.saw("exited", at + 2, expected=False)


def test_a_crash_is_counted_and_the_next_start_is_a_restart() -> None:
    record = Record()
    crashed(record, 100)
    record.saw("starting", 103)
    assert (record.restarts, record.crashes, record.state, record.started_at) == (1, [102], "starting", 103)


def test_an_end_that_was_asked_for_is_no_crash() -> None:
    record = Record()
    record.saw("starting", 100)
    record.saw("exited", 200, expected=True)
    record.saw("starting", 201)
    record.saw("stopped", 300)
    assert (record.crashes, record.restarts) == ([], 1)


def test_five_crashes_within_five_minutes_are_a_loop_and_four_or_slow_ones_are_none() -> None:
    fast, slow = Record(), Record()
    for n in range(LOOP):
        assert not fast.in_crash_loop(100 + 10 * n)
        crashed(fast, 100 + 10 * n)
        crashed(slow, 100 + 100 * n)
    assert fast.in_crash_loop(150)
    assert not slow.in_crash_loop(505)


def test_each_rest_is_twice_as_long_up_to_the_cap_and_running_well_forgets_them() -> None:
    record = Record()
    rests = []
    for n in range(6):
        record.saw("fatal", 1000.0 * n)
        assert record.retry_at is not None
        rests.append(record.retry_at - 1000 * n)
    assert rests == [REST, 2 * REST, 4 * REST, 8 * REST, REST_CAP, REST_CAP]
    assert record.is_due(5000 + REST_CAP)
    assert not record.is_due(5000 + REST_CAP - 1)
    record.saw("starting", 9000)
    record.saw("running", 9002, 42)
    assert record.retry_at is None
    assert not record.settle(9000 + STABLE - 1)
    assert record.settle(9001 + STABLE)
    assert record.rests == 0


def test_it_survives_its_file() -> None:
    record = Record()
    crashed(record, 100)
    record.saw("fatal", 103)
    assert Record(**record.as_json()) == record
