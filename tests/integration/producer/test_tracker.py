"""`Tracker`: when it sends, what a return promises, and what a full buffer does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from sqlalchemy import make_url

from pipeline import Tracker
from pipeline.errors import EventsNotAccepted, InvalidConfiguration, InvalidEvent
from pipeline.producer.app import configure
from pipeline.redis.scripts import Script
from pipeline.services import Services
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import NOW, eventually, sent
from tests.helpers.tracking import (
    WAIT_FOR_EVER_S,
    count_queue,
    messages_sent,
    refusing,
    track_all,
    users,
    users_sent,
)

pytestmark = pytest.mark.usefixtures("sending")
MakeTracker = Callable[..., Tracker]


@pytest.fixture
def make_tracker(redis_url: str) -> Iterator[MakeTracker]:
    """Makes trackers that are closed after the test."""
    made: list[Tracker] = []

    def make(**options: Any) -> Tracker:
        made.append(Tracker(**options))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()


# When it sends


def test_as_many_events_as_a_message_takes_are_sent_at_once(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker(max_events=10, max_age_s=WAIT_FOR_EVER_S)
    track_all(tracker, users(25))
    eventually(lambda: len(sent(client)) == 2)
    tracker.flush()
    assert [len(events) for events in messages_sent(client)] == [10, 10, 5]
    assert users_sent(client) == users(25)


def test_as_many_bytes_as_a_message_takes_are_sent_at_once(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker(max_bytes=2_000, max_age_s=WAIT_FOR_EVER_S)
    for _ in range(9):
        tracker.track("page_view", properties={"path": "x" * 900})
    eventually(lambda: len(sent(client)) == 3)
    for events in messages_sent(client):
        assert 2_000 <= sum(len(msgspec.json.encode(event)) for event in events) < 3_000


def test_an_event_is_sent_when_it_has_waited_for_others_long_enough(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker(max_age_s=0.05)
    tracker.track("page_view", "u1")
    eventually(lambda: users_sent(client) == ["u1"])
    tracker.track("page_view", "u2")
    eventually(lambda: users_sent(client) == ["u1", "u2"])


def test_an_event_has_what_it_was_tracked_with(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker()
    tracker.track("page_view", "u1", {"path": "/", "n": None}, NOW, "e1")
    before = datetime.now(UTC)
    tracker.track("click")
    after = datetime.now(UTC)
    tracker.flush()
    [[viewed, clicked]] = messages_sent(client)
    assert viewed == {
        "event_type": "page_view",
        "user_id": "u1",
        "properties": {"path": "/", "n": None},
        "timestamp": "2025-03-14T15:09:26Z",
        "event_id": "e1",
    }
    assert before.timestamp() <= clicked["timestamp"] <= after.timestamp()


def test_events_of_many_threads_are_all_sent_once_and_counted(
    make_tracker: MakeTracker, services: Services
) -> None:
    tracker = make_tracker(max_events=50, capacity=200, max_age_s=0.01)

    def work(thread: int) -> None:
        for user in users(300, f"t{thread}-"):
            tracker.track("page_view", user, {"path": "/"})
        tracker.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    expected = {user: 1 for thread in range(8) for user in users(300, f"t{thread}-")}
    assert count_queue(services) == expected
    assert services.stats.daily_count("page_view", datetime.now(UTC).date()) == 2_400
    assert services.status()["books"]["balanced"]


def test_a_message_whose_reply_was_lost_is_taken_once(
    make_tracker: MakeTracker, client: redis.Redis, redis_url: str
) -> None:
    cutter = ReplyCutter(make_url(redis_url).port or 0)
    through = make_url(redis_url).set(port=cutter.port).render_as_string(hide_password=False)
    configure(redis_url=through)
    tracker = make_tracker()
    for user in users(3):
        cutter.lose_the_answer_to(Script("pipeline.producer.publish").sha1.encode())
        tracker.track("page_view", user)
        tracker.flush()
    assert cutter.cut == 3
    assert users_sent(client) == users(3)
    cutter.close()


# Flush and close


def test_flush_returns_when_redis_has_the_events(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker(max_events=7, max_age_s=WAIT_FOR_EVER_S)
    for count in range(1, 30):
        tracker.track("page_view", f"u{count - 1}")
        tracker.flush()
        assert users_sent(client) == users(count)


def test_nothing_is_started_before_the_first_event(make_tracker: MakeTracker) -> None:
    tracker = make_tracker()
    tracker.flush()
    tracker.close()
    assert "analytics-tracker" not in [thread.name for thread in threading.enumerate()]


def test_what_is_not_accepted_in_time_is_kept_and_sent_later_once(
    make_tracker: MakeTracker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = make_tracker(max_events=10)
    with refusing(client):
        track_all(tracker, users(25))
        for _ in range(2):
            with pytest.raises(EventsNotAccepted, match="25 events were not accepted") as caught:
                tracker.flush(timeout_s=0.05)
            assert caught.value.events == 25
        eventually(lambda: caplog.records)
    tracker.flush()
    assert users_sent(client) == users(25)
    [warning] = caplog.records  # one, however often it was tried
    assert warning.levelno == logging.WARNING
    assert not warning.exc_info


def test_a_later_close_sends_what_an_earlier_one_could_not_and_once(
    services: Services, client: redis.Redis
) -> None:
    tracker = Tracker(max_events=10)
    with refusing(client):
        track_all(tracker, users(25))
        for _ in range(2):
            with pytest.raises(EventsNotAccepted, match="25 events"):
                tracker.close(timeout_s=0)
        with pytest.raises(EventsNotAccepted):
            tracker.flush()
    tracker.close()
    tracker.close()
    tracker.flush()
    assert count_queue(services) == dict.fromkeys(users(25), 1)
    assert "analytics-tracker" not in [thread.name for thread in threading.enumerate()]


def test_a_closed_tracker_takes_no_events(client: redis.Redis) -> None:
    with Tracker(max_age_s=WAIT_FOR_EVER_S) as tracker:
        tracker.track("page_view", "u0")
    assert users_sent(client) == ["u0"]
    with pytest.raises(RuntimeError, match="the tracker is closed"):
        tracker.track("page_view")
    with pytest.raises(RuntimeError, match="the tracker is closed"):
        tracker.track_many([{"event_type": "page_view"}])
    assert len(users_sent(client)) == 1


def test_many_closes_at_once_all_return_when_all_is_sent(client: redis.Redis) -> None:
    tracker = Tracker(max_events=10)
    track_all(tracker, users(100))
    with ThreadPoolExecutor(4) as pool:
        counts = list(
            pool.map(lambda _: (tracker.close(), len(users_sent(client)))[1], range(4))  # type: ignore[func-returns-value]
        )
    assert counts == [100] * 4


# A full buffer


@pytest.mark.parametrize(
    "bound", [{"capacity": 2, "max_events": 2}, {"capacity_bytes": 100, "max_bytes": 50}], ids=str
)
def test_a_full_buffer_holds_the_caller_up_until_there_is_room(
    make_tracker: MakeTracker, client: redis.Redis, bound: dict[str, int]
) -> None:
    tracker = make_tracker(**bound)
    done = threading.Event()

    def work() -> None:
        track_all(tracker, users(20))
        done.set()

    with refusing(client):
        worker = threading.Thread(target=work)
        worker.start()
        eventually(lambda: tracker.background.buffer.progress._waiters)
        assert tracker.background.buffer.waiting() == 2
        assert not done.is_set()
    worker.join()
    tracker.flush()
    assert users_sent(client) == users(20)


def test_a_close_wakes_whoever_waits_for_room(client: redis.Redis) -> None:
    tracker = Tracker(capacity=2, max_events=2)
    with ThreadPoolExecutor(2) as pool:
        with refusing(client):
            waiting = pool.submit(track_all, tracker, users(3))
            eventually(lambda: tracker.background.buffer.progress._waiters)
            closing = pool.submit(tracker.close)
            with pytest.raises(RuntimeError, match="the tracker is closed"):
                waiting.result()
            assert not closing.done()
        closing.result()
    assert users_sent(client) == users(2)


def test_where_that_was_chosen_a_full_buffer_drops_and_says_so(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    told: list[int] = []
    tracker = make_tracker(capacity=3, max_events=3, when_full="drop", on_drop=told.append)
    with refusing(client):
        track_all(tracker, users(5))
        assert (tracker.dropped, told) == (2, [1, 1])
    tracker.flush()
    track_all(tracker, ["late"])
    tracker.flush()
    assert users_sent(client) == [*users(3), "late"]
    assert tracker.dropped == 2


def test_on_drop_may_use_the_tracker(make_tracker: MakeTracker, client: redis.Redis) -> None:
    seen: list[int] = []
    tracker = make_tracker(
        capacity=1, max_events=1, when_full="drop", on_drop=lambda _: seen.append(tracker.dropped)
    )
    with refusing(client):
        track_all(tracker, users(3))
    assert seen == [1, 2]


# Many at once


def test_track_many_waits_for_room_and_until_all_is_accepted(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker(capacity=20, max_events=10, max_age_s=WAIT_FOR_EVER_S, when_full="drop")
    count = tracker.track_many({"event_type": "page_view", "user_id": u} for u in users(1_003))
    assert (count, tracker.dropped) == (1_003, 0)
    assert users_sent(client) == users(1_003)
    assert tracker.track_many([]) == 0


def test_track_many_names_the_bad_event_and_sends_those_before_it(
    make_tracker: MakeTracker, client: redis.Redis
) -> None:
    tracker = make_tracker()
    good: list[Any] = [{"event_type": "page_view", "user_id": u} for u in users(3)]
    for bad, field in [({"event_type": "a", "user_id": 7.5}, "user_id"), ("text", "event")]:
        with pytest.raises(InvalidEvent) as caught:
            tracker.track_many([*good, bad, *good])
        assert caught.value.field == f"events[3].{field}"
    tracker.flush()
    assert users_sent(client) == users(3) * 2


def test_an_invalid_event_puts_nothing_in(make_tracker: MakeTracker, client: redis.Redis) -> None:
    tracker = make_tracker()
    with pytest.raises(InvalidEvent, match="user_id"):
        tracker.track("page_view", 7.5)
    tracker.track("page_view", "u0")
    tracker.flush()
    assert users_sent(client) == ["u0"]


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_events": 0}, "max_events=0: give 1 to 1000"),
        ({"max_events": 1_001}, "max_events=1001: give 1 to 1000"),
        ({"max_bytes": 0}, "max_bytes=0: give 1 to 524288"),
        ({"max_bytes": 524_289}, "max_bytes=524289: give 1 to 524288"),
        ({"max_age_s": -1}, "max_age_s=-1: give seconds"),
        ({"max_age_s": float("nan")}, "max_age_s=nan: give seconds"),
        ({"max_age_s": float("inf")}, "max_age_s=inf: give seconds"),
        ({"capacity": 499}, "capacity=499: give max_events=500 or more"),
        ({"capacity_bytes": 9, "max_bytes": 10}, "capacity_bytes=9: give max_bytes=10 or more"),
        ({"when_full": "wait"}, "when_full='wait': give"),
        ({"when_full": "spool"}, "spool_dir goes with"),
        ({"spool_dir": "here"}, "spool_dir goes with"),
        ({"when_full": "spool", "spool_dir": "s", "spool_bytes": 0}, "spool_bytes=0: give 1"),
        ({"on_drop": print}, "on_drop goes with"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tracker(**options)


def test_without_an_address_the_first_event_says_what_to_set(tmp_path: Path) -> None:
    configure(redis_url=None, data_dir=tmp_path)
    with pytest.raises(InvalidConfiguration, match="ANALYTICS_REDIS_URL is not set"):
        Tracker().track("page_view")
