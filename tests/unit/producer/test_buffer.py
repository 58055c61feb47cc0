"""A tracker's buffer, without a broker: what a message holds, and what wakes its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import EventsNotAccepted
from pipeline.producer.tracking.buffer import Buffer, Limits
from tests.helpers.support import eventually

LONG_S = 3_600.0


def buffer_of(limits: Limits, **options: object) -> Buffer:
    """A buffer that this test empties itself."""
    buffer = Buffer(limits, **options)  # type: ignore[arg-type]
    buffer.has_sender = True
    return buffer


def put(buffer: Buffer, *events: bytes) -> None:
    for event in events:
        assert buffer.put_at_once(event)


# Messages


def test_a_message_holds_the_oldest_events_up_to_the_number_of_a_message() -> None:
    buffer = buffer_of(Limits(max_events=2, max_age_s=0))
    put(buffer, b"1", b"2", b"3")
    first = buffer.next_message(0)
    assert first == [b"1", b"2"]
    buffer.remove(first)
    assert buffer.next_message(0) == [b"3"]


def test_a_message_ends_with_the_event_that_reaches_its_bytes() -> None:
    buffer = buffer_of(Limits(max_bytes=4, max_age_s=LONG_S))
    put(buffer, b"12", b"345", b"6")
    assert buffer.next_message(LONG_S) == [b"12", b"345"]


def test_a_message_stays_the_next_until_it_is_removed() -> None:
    buffer = buffer_of(Limits(max_events=1))
    put(buffer, b"1", b"2")
    assert buffer.next_message(0) is buffer.next_message(0)
    assert (buffer.waiting(), buffer.removed) == (2, 0)
    buffer.remove(buffer.next_message(0))
    assert (buffer.waiting(), buffer.removed) == (1, 1)


def test_an_empty_buffer_has_no_message() -> None:
    assert buffer_of(Limits()).next_message(0) == []


@pytest.mark.parametrize("hasten", [Buffer.hurry, Buffer.close])
def test_a_message_that_waits_for_more_events_goes_when_it_is_hastened(
    hasten: Callable[[Buffer], object],
) -> None:
    buffer = buffer_of(Limits(max_age_s=LONG_S))
    put(buffer, b"1")
    with ThreadPoolExecutor(1) as pool:
        message = pool.submit(buffer.next_message, None)
        eventually(lambda: buffer._work._waiters)  # type: ignore[attr-defined]
        hasten(buffer)
        assert message.result(30) == [b"1"]


# Room


@pytest.mark.parametrize(
    "limits",
    [Limits(max_events=2, capacity=2), Limits(max_bytes=1, capacity_bytes=2)],
    ids=["events", "bytes"],
)
def test_a_full_buffer_has_room_again_when_a_message_was_removed(limits: Limits) -> None:
    buffer = buffer_of(limits)
    put(buffer, b"1", b"2")
    assert not buffer.put_at_once(b"3")
    buffer.remove(buffer.next_message(0))
    assert buffer.put_at_once(b"3")
    assert buffer.dropped == 0


def test_put_waits_for_room() -> None:
    buffer = buffer_of(Limits(max_events=1, capacity=1))
    put(buffer, b"1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(buffer.put, b"2")
        eventually(lambda: buffer.progress._waiters)  # type: ignore[attr-defined]
        buffer.remove(buffer.next_message(0))
        waiting.result(30)
    assert buffer.next_message(0) == [b"2"]


def test_what_finds_no_room_is_dropped_where_that_was_chosen() -> None:
    told: list[int] = []
    buffer = buffer_of(Limits(max_events=1, capacity=1), drops=True, on_drop=told.append)
    put(buffer, b"1", b"2", b"3")
    assert (buffer.dropped, told, buffer.waiting()) == (2, [1, 1], 1)


def test_a_closed_buffer_takes_nothing_and_has_what_was_in_it() -> None:
    buffer = buffer_of(Limits(max_age_s=LONG_S))
    put(buffer, b"1")
    buffer.close()
    for take in (buffer.put, buffer.put_at_once):
        with pytest.raises(RuntimeError, match="the tracker is closed"):
            take(b"2")
    assert buffer.next_message(None) == [b"1"]


# Progress


def test_hurry_says_how_many_events_will_have_left() -> None:
    buffer = buffer_of(Limits(max_events=1))
    put(buffer, b"1", b"2")
    buffer.remove(buffer.next_message(0))
    put(buffer, b"3")
    target = buffer.hurry()
    assert target == 3
    with pytest.raises(EventsNotAccepted, match="2 events"):
        buffer.check_removed(target)
    for _ in range(2):
        buffer.remove(buffer.next_message(0))
    buffer.check_removed(target)


def test_a_wake_is_called_once_and_only_where_the_condition_did_not_hold() -> None:
    buffer = buffer_of(Limits(max_events=1))
    called: list[str] = []
    assert buffer.holds_or_wakes(lambda: True, lambda: called.append("held"))
    assert not buffer.holds_or_wakes(lambda: False, lambda: called.append("did not"))
    put(buffer, b"1", b"2")
    for _ in range(2):
        buffer.remove(buffer.next_message(0))
    assert called == ["did not"]


# Starting


def test_an_event_for_which_no_thread_is_there_is_not_put_in() -> None:
    buffer = Buffer(Limits())
    assert not buffer.put_at_once(b"1")
    buffer.has_sender = True
    put(buffer, b"2", b"3")
    assert buffer.next_message(0) == [b"2", b"3"]


def test_events_of_many_threads_all_leave_once() -> None:
    buffer = buffer_of(Limits(max_events=7, capacity=20, max_age_s=0))
    taken: list[bytes] = []

    def take() -> None:
        while message := buffer.next_message(None):
            taken.extend(message)
            buffer.remove(message)

    taking = threading.Thread(target=take)
    taking.start()
    with ThreadPoolExecutor(4) as pool:
        for thread in range(4):
            pool.submit(lambda t=thread: [buffer.put(b"%d %d" % (t, n)) for n in range(200)])
    buffer.close()
    taking.join(30)
    assert sorted(taken) == sorted(b"%d %d" % (t, n) for t in range(4) for n in range(200))
