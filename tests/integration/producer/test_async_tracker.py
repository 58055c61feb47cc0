"""`AsyncTracker`: what a `Tracker` promises, and an event loop that is never held up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import redis

from pipeline import AsyncTracker
from pipeline.errors import EventsNotAccepted, InvalidEvent
from pipeline.services import Services
from tests.helpers.tracking import WAIT_FOR_EVER_S, count_queue, refusing, users, users_sent

pytestmark = pytest.mark.usefixtures("sending")


async def track_all(tracker: AsyncTracker, names: list[str]) -> None:
    for name in names:
        await tracker.track("page_view", name)


async def until(condition: Any) -> None:
    """Let the loop run until it is so; the test's time limit ends what never comes."""
    while not condition():
        await asyncio.sleep(0.005)


def is_held_up(tracker: AsyncTracker) -> bool:
    return bool(tracker._background.buffer.wakes)


def go(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test, debug=False)


def test_flush_returns_when_redis_has_the_events(client: redis.Redis) -> None:
    async def test() -> None:
        async with AsyncTracker(max_events=10, max_age_s=WAIT_FOR_EVER_S) as tracker:
            await tracker.flush()
            await track_all(tracker, users(25))
            await tracker.flush()
            assert users_sent(client) == users(25)
            await tracker.track("page_view", "last")
        assert users_sent(client)[25:] == ["last"]
        await tracker.close()
        with pytest.raises(RuntimeError, match="the tracker is closed"):
            await tracker.track("page_view")

    go(test())


def test_events_of_many_coroutines_are_counted_once(services: Services) -> None:
    async def test() -> None:
        async with AsyncTracker(max_events=7, capacity=20, max_age_s=0) as tracker:
            await asyncio.gather(*[track_all(tracker, users(50, f"c{n} ")) for n in range(20)])

    go(test())
    names = [name for n in range(20) for name in users(50, f"c{n} ")]
    assert count_queue(services) == dict.fromkeys(names, 1)


def test_while_the_buffer_is_full_other_coroutines_go_on(client: redis.Redis) -> None:
    async def test() -> None:
        tracker = AsyncTracker(max_events=2, capacity=2)
        with refusing(client):
            waiting = asyncio.create_task(track_all(tracker, users(10)))
            await until(lambda: is_held_up(tracker))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
            flushing = asyncio.create_task(tracker.flush())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not flushing.done()
        await waiting
        await flushing
        await tracker.close()
        assert users_sent(client) == users(10)

    go(test())


def test_what_is_not_accepted_in_time_is_kept(client: redis.Redis) -> None:
    async def test() -> None:
        tracker = AsyncTracker()
        with refusing(client):
            await track_all(tracker, users(3))
            with pytest.raises(EventsNotAccepted, match="3 events"):
                await tracker.flush(timeout_s=0.05)
            with pytest.raises(EventsNotAccepted, match="3 events"):
                await tracker.close(timeout_s=0)
        await tracker.close()
        assert users_sent(client) == users(3)

    go(test())


def test_a_cancelled_track_puts_nothing_in_and_leaves_nothing_behind(client: redis.Redis) -> None:
    async def test() -> None:
        tracker = AsyncTracker(max_events=2, capacity=2)
        with refusing(client):
            await track_all(tracker, users(2))
            for _ in range(5):
                waiting = asyncio.create_task(tracker.track("page_view", "cancelled"))
                await until(lambda: is_held_up(tracker))
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert not is_held_up(tracker)
        await tracker.close()
        assert users_sent(client) == users(2)

    go(test())


def test_a_close_wakes_whoever_waits_for_room(client: redis.Redis) -> None:
    async def test() -> None:
        tracker = AsyncTracker(max_events=2, capacity=2)
        with refusing(client):
            waiting = asyncio.create_task(track_all(tracker, users(3)))
            await until(lambda: is_held_up(tracker))
            closing = asyncio.create_task(tracker.close())
            with pytest.raises(RuntimeError, match="the tracker is closed"):
                await waiting
            assert not closing.done()
        await closing
        assert users_sent(client) == users(2)

    go(test())


def test_where_that_was_chosen_a_full_buffer_drops(client: redis.Redis) -> None:
    told: list[int] = []

    async def test() -> None:
        options: dict[str, Any] = {"when_full": "drop", "on_drop": told.append}
        async with AsyncTracker(max_events=2, capacity=2, **options) as tracker:
            with refusing(client):
                await track_all(tracker, users(5))
            assert (tracker.dropped, told) == (3, [1, 1, 1])
        assert users_sent(client) == users(2)

    go(test())


def test_a_loop_that_ended_while_it_waited_does_no_harm(client: redis.Redis) -> None:
    tracker = AsyncTracker(max_events=2, capacity=2)

    async def give_up() -> None:
        await track_all(tracker, users(2))
        task = asyncio.create_task(tracker.track("page_view", "cancelled"))
        await until(lambda: is_held_up(tracker))
        task.cancel()

    with refusing(client):
        go(give_up())
    go(tracker.close())
    assert users_sent(client) == users(2)


def test_an_invalid_event_and_an_option_without_sense_are_named() -> None:
    async def test() -> None:
        with pytest.raises(InvalidEvent, match="user_id"):
            await AsyncTracker().track("page_view", 7.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="max_events=0"):
            AsyncTracker(max_events=0)

    go(test())
