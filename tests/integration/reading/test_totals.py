"""The books balance at every moment: what was published is consumed, waits or is being worked on,
and what was consumed is counted, a duplicate or dead; in all and of every type."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline import track_event, track_events
from pipeline.counting.batch import OUTCOMES, BadEvent, Delivery, read_delivery
from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.conftest import MakeServices
from tests.helpers.support import QUEUE, arguments, fetch, message, restore

MESSAGES = 450
"""Of each producer."""


def delivery(tag: str, text: bytes) -> Delivery:
    """The message as a worker reads it; what is called "odd" is a dead letter."""
    args, kwargs = arguments(json.loads(text))
    events = args[0] if isinstance(args[0], list) else [{"event_type": args[0], **kwargs}]
    bad = [one | {"timestamp": "never"} if one["event_type"] == "odd" else one for one in events]
    return read_delivery(bad, datetime.now(UTC), tag=tag)


def read_fetched(services: Services) -> list[Delivery]:
    """What waits in the queue, taken and read as workers do."""
    now = datetime.now(UTC)
    return [read_message(tag, raw, now).delivery for tag, raw in fetch(services)]


def produce() -> None:
    for n in range(MESSAGES // 2):
        track_event.delay("page_view", event_id=f"{n % 100}")
        track_events.delay([{"event_type": "sale"}, {"event_type": "odd"}])


def assert_balanced(books: dict[str, Any]) -> None:
    assert books["balanced"]
    assert books["missing_messages"] == 0
    by_type = books["by_type"].values()
    for row in (books, *by_type):
        assert row.get("consumed", 0) == sum(row.get(outcome, 0) for outcome in OUTCOMES), row
    for field in ("consumed", *OUTCOMES):
        assert books[field] == sum(row.get(field, 0) for row in by_type)


@pytest.mark.usefixtures("sending")
def test_the_books_balance_at_every_moment_of_producing_and_consuming(
    make_services: MakeServices,
) -> None:
    reading = make_services()
    produced, over = threading.Event(), threading.Event()

    def anything_left() -> bool:
        return not produced.is_set() or bool(reading.redis.exists(QUEUE, reading.keys.unacked))

    def work(services: Services) -> None:
        """Count every third batch twice, forget every fifth one as who dies does, and give back
        what others hold."""
        turn = 0
        while not over.is_set() and anything_left():
            turn += 1
            deliveries = [delivery(tag, text) for tag, text in fetch(services)]
            if turn % 5:
                for _ in range(1 if turn % 3 else 2):
                    services.counters.apply(deliveries, datetime.now(UTC))
            else:
                restore(services)

    looks = 0
    with ThreadPoolExecutor(4) as pool:
        producing = [pool.submit(produce) for _ in range(2)]
        working = [pool.submit(work, make_services()) for _ in range(2)]
        try:
            while not all(one.done() for one in working):
                assert_balanced(reading.status()["books"])
                looks += 1
                if all(one.done() for one in producing):
                    produced.set()
            for done in [*producing, *working]:
                done.result()
        finally:
            over.set()

    books = reading.status()["books"]
    assert_balanced(books)
    assert looks > 20
    published = 2 * (MESSAGES // 2) * 3
    assert books["published"] == books["consumed"] == published
    sales = 2 * (MESSAGES // 2)
    assert books["by_type"] == {
        "page_view": {"consumed": sales, "counted": 100, "duplicate": sales - 100},
        "sale": {"consumed": sales, "counted": sales},
        "odd": {"consumed": sales, "dead": sales},
    }


@pytest.mark.usefixtures("sending")
def test_each_message_is_in_one_place_of_the_books(services: Services) -> None:
    def places() -> tuple[int, int, int, int]:
        status = services.status()
        books = status["books"]
        assert_balanced(books)
        return (
            books["published"],
            status["queue_depth"],
            status["unacknowledged"],
            books["consumed"],
        )

    assert places() == (0, 0, 0, 0)
    track_event.delay("a")
    track_event.delay("b")
    assert places() == (2, 2, 0, 0)
    held = fetch(services)
    assert places() == (2, 0, 2, 0)
    restore(services)
    assert places() == (2, 2, 0, 0)
    held = fetch(services)
    services.counters.apply([delivery(*held[0])], datetime.now(UTC))
    assert places() == (2, 0, 1, 1)
    services.counters.apply([delivery(*one) for one in held], datetime.now(UTC))
    assert places() == (2, 0, 0, 2)


WRONG: dict[str, Callable[[Services], Any]] = {
    "a message is gone": lambda services: services.redis.rpop(QUEUE),
    "an event without an outcome": lambda services: services.redis.hincrby(
        services.keys.totals, "consumed", 1
    ),
    "an event without an outcome, of one type": lambda services: services.redis.hincrby(
        services.keys.totals, "consumed:a", 1
    ),
    "an outcome too many, of one type": lambda services: services.redis.hincrby(
        services.keys.totals, "counted:b", 1
    ),
}


@pytest.mark.usefixtures("sending")
@pytest.mark.parametrize("wrong", WRONG)
def test_books_that_do_not_balance_are_said_not_to(services: Services, wrong: str) -> None:
    services.counters.apply([message(bad=[BadEvent(b"{}", "reason")])], datetime.now(UTC))
    track_event.delay("a")
    assert services.status()["books"]["balanced"]
    WRONG[wrong](services)
    assert not services.status()["books"]["balanced"]


def test_what_names_no_type_is_booked_as_unknown(services: Services) -> None:
    services.redis.lpush(QUEUE, b"\xff")
    bad = [{"event_type": "a", "color": "red"}, {"event_type": ""}, 7]
    deliveries = [*read_fetched(services), read_delivery(bad, datetime.now(UTC))]
    services.counters.apply(deliveries, datetime.now(UTC))
    books = services.status()["books"]
    assert_balanced(books)
    assert books["by_type"] == {
        "__unknown__": {"consumed": 3, "dead": 3},
        "a": {"consumed": 1, "dead": 1},
    }


@pytest.mark.usefixtures("sending")
def test_a_step_is_whole_also_where_the_books_cannot_be_kept(services: Services) -> None:
    """Redis does not undo what a script did before it failed: nothing may fail so late."""
    fields = ("published", "published_messages", "repaired_counters", "expired_counters")
    unkept = [
        f"{field}{kind}" for field in ("consumed", *OUTCOMES) for kind in ("", ":a", ":__unknown__")
    ]
    services.redis.hset(services.keys.totals, mapping=dict.fromkeys([*fields, *unkept], 2**63 - 1))
    track_event.delay("a")
    services.redis.lpush(QUEUE, b"\xff", b"nobody can handle it")
    fetched = read_fetched(services)
    assert not services.redis.exists(QUEUE)
    services.counters.apply(fetched, datetime.now(UTC))
    assert services.redis.xlen(services.keys.dead) == 2
    assert not services.redis.exists(services.keys.unacked)
    services.redis.delete(services.keys.pending_flush)
    assert services.repair_counters() == 1
    services.redis.sadd(services.keys.pending_flush, "analytics:counter:gone:2025-03-14")
    assert services.flush() == 2
    assert services.stats.daily_count("a", datetime.now(UTC).date()) == 1
