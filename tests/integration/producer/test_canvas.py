"""Signatures, options and callbacks of events, in an application with a Celery app of its own."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, Task, chain, chord, group
from sqlalchemy import make_url

from pipeline import track_event, track_events
from pipeline.contract import PLAIN_USER_IDS
from pipeline.errors import NotFollowed, OptionRefused
from pipeline.producer import app as producer
from pipeline.producer.app import configure
from pipeline.producer.canvas import forwarding
from pipeline.producer.canvas.followers import take_followers
from tests.helpers.support import QUEUE, ROOT, arguments, sent

pytestmark = pytest.mark.usefixtures("sending")


def other_database(redis_url: str) -> str:
    return make_url(redis_url).set(database="1").render_as_string(hide_password=False)


@pytest.fixture
def their_redis(redis_url: str) -> Iterator[redis.Redis]:
    """The application's results, and its broker where that is another than ours."""
    with redis.Redis.from_url(other_database(redis_url)) as theirs:
        yield theirs
        theirs.flushdb()


@pytest.fixture(params=["our broker", "a broker of its own"])
def shop(
    request: pytest.FixtureRequest, redis_url: str, their_redis: redis.Redis
) -> Iterator[Celery]:
    theirs = other_database(redis_url)
    broker = redis_url if request.param == "our broker" else theirs
    with Celery("shop", broker=broker, backend=theirs) as app:
        app.conf.task_routes = {"shop.ship": {"queue": "shop.slow"}}
        yield app
    producer.app.set_current()


@pytest.fixture
def ship(shop: Celery) -> Task:
    @shop.task(name="shop.ship", shared=False)
    def ship(*_: object) -> None:
        """Never run: what matters is where it goes."""

    return ship


def uses_our_broker(shop: Celery) -> bool:
    return str(shop.conf.broker_url).endswith("/0")


def types_sent(client: redis.Redis) -> list[str]:
    """The types of the events in our queue, in the order in which they were sent."""
    found: list[str] = []
    for message in sent(client):
        args, _ = arguments(message)
        many = message["headers"]["task"] == track_events.name
        found += [event["event_type"] for event in args[0]] if many else args
    return found


def embedded(message: dict[str, Any]) -> dict[str, Any]:
    """What a message says comes after its task."""
    found: dict[str, Any] = json.loads(b64decode(message["body"]))[2]
    return found


# Signatures


def test_a_program_that_does_not_know_us_sends_a_signature_to_our_workers(
    client: redis.Redis, redis_url: str
) -> None:
    text = json.dumps(track_event.si("page_view", user_id="u1"))
    with Celery("foreign", broker=redis_url, set_as_current=False) as foreign:
        foreign.signature(json.loads(text)).apply_async()
    [message] = sent(client)
    assert arguments(message) == (["page_view"], {"user_id": "u1"})
    assert message["headers"][PLAIN_USER_IDS] is True
    client.delete("_kombu.binding.analytics.events")


def test_the_route_of_the_documentation_brings_events_of_a_stock_client_to_our_workers(
    client: redis.Redis, redis_url: str
) -> None:
    page = (ROOT / "docs" / "guides" / "sending" / "celery.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if line.startswith("app.conf.task_routes = ")]
    with Celery("foreign", broker=redis_url, set_as_current=False) as app:
        exec(line, {"app": app})
        app.send_task("analytics.track_event", ["page_view"], {"user_id": "u1"})
        app.send_task("analytics.track_events", [[{"event_type": "click"}]])
    assert types_sent(client) == ["page_view", "click"]
    client.delete("_kombu.binding.analytics.events")


def test_a_signature_made_before_settings_are_chosen_goes_where_they_say(
    client: redis.Redis,
) -> None:
    early = track_event.si("early")
    configure(prefix="shop:")
    early.delay()
    assert client.lpop("shop.events")
    client.delete(*client.scan_iter("shop:*"))


def test_a_signature_made_before_the_application_is_sends_what_is_around_it_by_the_application(
    client: redis.Redis, redis_url: str
) -> None:
    early = track_event.si("early")
    with Celery("shop", broker=redis_url) as shop:
        group(early, shop.signature("a")).apply_async(queue="shop.slow")
    producer.app.set_current()
    assert types_sent(client) == ["early"]
    assert client.delete("shop.slow")
    client.delete("_kombu.binding.shop.slow")


def test_a_signature_is_sent_as_quickly_as_the_event_itself(client: redis.Redis) -> None:
    track_event.s("page_view").delay()
    [message] = sent(client)
    assert message["properties"]["delivery_tag"].startswith("analytics/")


def test_a_group_sends_every_task_to_its_own_broker(
    client: redis.Redis, shop: Celery, ship: Task
) -> None:
    group(track_event.si("first"), ship.si()).apply_async()
    group(ship.si(), track_event.si("second")).apply_async()
    assert types_sent(client) == ["first", "second"]
    with shop.connection_for_write() as connection:
        assert connection.default_channel._size("shop.slow") == 2
        connection.default_channel._purge("shop.slow")


@pytest.mark.parametrize("events", [0, 1, 3, 1_001])
def test_a_map_sends_its_events_in_as_few_messages_as_hold_them(
    client: redis.Redis, events: int
) -> None:
    names = [f"e{number}" for number in range(events)]
    track_event.map(iter(names)).apply_async()
    assert types_sent(client) == names
    assert client.llen(QUEUE) == -(-events // 1_000)


def test_a_starmap_and_chunks_send_events_and_lists_of_events(client: redis.Redis) -> None:
    track_event.starmap([("one", "u1"), ("two", "u2")]).apply_async()
    assert [event["user_id"] for event in arguments(sent(client)[0])[0][0]] == ["u1", "u2"]
    track_event.chunks([("three",), ("four",), ("five",)], 2)()
    track_events.map([[{"event_type": "six"}], [{"event_type": "seven"}]]).apply_async()
    assert types_sent(client) == ["one", "two", "three", "four", "five", "six", "seven"]
    assert client.llen(QUEUE) == 5
    with pytest.raises(TypeError, match="takes 5 arguments, and 6 were given"):
        track_event.starmap([("e", "u", {}, None, "id", "more")])


# What comes after an event


def test_a_callback_waits_for_our_workers_or_is_sent_at_once_to_another_broker(
    client: redis.Redis, shop: Celery, ship: Task, their_redis: redis.Redis
) -> None:
    track_event.apply_async(("one",), link=ship.si())
    chain(track_event.si("two"), ship.si(), ship.si()).apply_async(link_error=ship.si())
    linked, chained = [embedded(message) for message in sent(client)]
    if uses_our_broker(shop):
        assert [link["options"]["queue"] for link in linked["callbacks"]] == ["shop.slow"]
        assert [step["options"]["queue"] for step in chained["chain"]] == ["shop.slow"] * 2
        assert [link["options"]["queue"] for link in chained["errbacks"]] == ["shop.slow"]
    else:
        assert not any([*linked.values(), *chained.values()])
        messages = [json.loads(text) for text in reversed(their_redis.lrange("shop.slow", 0, -1))]
        assert [len(embedded(message)["chain"] or ()) for message in messages] == [0, 1]


@pytest.mark.parametrize(
    "change", [{"broker_url": "amqp://u:p@h:5672//"}, {"redis_url": "redis://127.0.0.1:1/0"}, None]
)
def test_a_callback_is_sent_at_once_where_our_workers_cannot_send_it(
    redis_url: str, change: dict[str, str] | None
) -> None:
    with Celery("shop", broker=redis_url) as shop:
        if change is None:
            shop.conf.broker_transport_options = {"global_keyprefix": "shop"}
        else:
            configure(**change)
        options: dict[str, Any] = {"link": shop.signature("a"), "link_error": shop.signature("b")}
        followers = take_followers(options, "id1")
    producer.app.set_current()
    assert (options, followers and len(followers.links)) == ({}, 1)


def test_an_error_of_what_follows_an_event_says_that_the_event_is_accepted(
    client: redis.Redis,
) -> None:
    with Celery("shop", broker="redis://127.0.0.1:1/0") as shop:
        shop.conf.task_publish_retry = False
        with pytest.raises(NotFollowed, match=r"refused.*The event is accepted and counts"):
            track_event.apply_async(("one",), link=shop.signature("a"))
    producer.app.set_current()
    assert types_sent(client) == ["one"]


def test_an_application_that_has_our_tasks_sends_their_signatures_straight_to_our_workers(
    client: redis.Redis, shop: Celery
) -> None:
    forwarding._register(shop, (track_event, track_events))
    shop.signature(track_event.name, ("by name",)).apply_async()
    shop.signature(json.loads(json.dumps(track_event.si("from a message")))).apply_async()
    shop.tasks[track_event.name]("called")
    assert types_sent(client) == ["by name", "from a message", "called"]
    assert all(arguments(message)[1]["timestamp"] for message in sent(client))


def test_parts_of_a_callback_are_routed_one_by_one(
    client: redis.Redis, redis_url: str, their_redis: redis.Redis
) -> None:
    with Celery("shop", broker=redis_url, backend=other_database(redis_url)) as shop:
        shop.conf.update(task_routes={"a": {"queue": "qa"}}, task_default_queue="qd")
        a, b = shop.signature("a", immutable=True), shop.signature("b", queue="own")
        inner = chord([a, b], shop.signature("c"))
        track_event.apply_async(("one",), link=[group(a, b), inner])
    producer.app.set_current()
    [grouped, chorded] = embedded(sent(client)[0])["callbacks"]
    for tasks in (grouped["kwargs"]["tasks"], chorded["kwargs"]["header"]):
        assert [task["options"]["queue"] for task in tasks] == ["qa", "own"]
    assert chorded["kwargs"]["body"]["options"]["queue"] == "qd"


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # by Celery
def test_events_in_the_header_of_a_chord_are_done_when_they_are_accepted(
    client: redis.Redis, shop: Celery, ship: Task
) -> None:
    chord([track_event.si("one"), track_event.si("two")], ship.s()).apply_async()
    assert types_sent(client) == ["one", "two"]
    assert not any(embedded(message)["chord"] for message in sent(client))
    with shop.connection_for_write() as connection:
        assert connection.default_channel._size("shop.slow") == 1
        connection.default_channel._purge("shop.slow")


def test_without_results_a_chord_is_refused_before_any_event_is_sent(
    client: redis.Redis, redis_url: str
) -> None:
    unable = pytest.raises(NotImplementedError, match="result backend")
    with Celery("shop", broker=redis_url) as shop, unable:
        chord([track_event.si("one")], shop.signature("a")).apply_async()
    producer.app.set_current()
    assert not client.exists(QUEUE)


def test_where_events_are_not_sent_nothing_that_follows_them_is(
    shop: Celery, ship: Task, their_redis: redis.Redis, client: redis.Redis
) -> None:
    configure(enabled=False)
    chain(track_event.si("one"), ship.si()).apply_async()
    chord([track_event.si("two")], ship.s()).apply_async()
    assert not client.exists(QUEUE)
    assert client.delete("shop.slow") + their_redis.delete("shop.slow") == 0


# Options


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"queue": "other"},
            "queue: the workers that count events read the queue analytics.events",
        ),
        ({"exchange": "x"}, "exchange: "),
        ({"routing_key": "x"}, "routing_key: "),
        ({"serializer": "pickle"}, "serializer: workers accept JSON only"),
        ({"compression": "zstd"}, "compression: workers unpack gzip, bzip2 and lzma only"),
        ({"compression": "none such"}, "compression: "),
        ({"priority": "high"}, "priority: must be a number from 0 to 9"),
        ({"countdown": "soon"}, "countdown: must be a number of seconds"),
        ({"countdown": float("nan")}, "countdown: "),
        ({"countdown": 10**12}, "countdown: "),
        ({"countdown": 15 * 86_400}, "countdown: is more than 14 days ahead"),
        ({"eta": "soon"}, "eta: must be a datetime, or text in ISO 8601"),
        ({"eta": "2999-12-31T00:00:00Z"}, "eta: is more than 14 days ahead"),
        ({"eta": datetime(2999, 12, 31, tzinfo=UTC)}, "eta: is more than 14 days ahead"),
        ({"expires": "soon"}, "expires: "),
        ({"expires": True}, "expires: "),
        ({"link": "text"}, "link: must be signatures of tasks"),
        ({"link_error": [{"no": "task"}]}, "link_error: "),
        ({"task_id": "x" * 256}, "task_id: must have at most 255 characters"),
    ],
    ids=str,
)
def test_an_option_that_would_lose_an_event_is_refused_before_anything_is_sent(
    unreachable: None, options: dict[str, Any], reason: str
) -> None:
    for call in (track_event.apply_async, track_event.s().apply_async):
        with pytest.raises(OptionRefused, match=f"^{reason}"):
            call(("a",), **options)


def test_an_option_for_a_whole_canvas_is_for_the_tasks_around_an_event(
    client: redis.Redis,
) -> None:
    for_all = {"queue": "slow", "serializer": "yaml", "compression": "zstd"}
    group(track_event.si("one"), track_event.si("two")).apply_async(**for_all)
    assert types_sent(client) == ["one", "two"]
    assert {message["content-type"] for message in sent(client)} == {"application/json"}


def test_options_that_say_nothing_about_an_event_are_taken(client: redis.Redis) -> None:
    options: dict[str, Any] = {
        "queue": QUEUE,
        "exchange": "",
        "routing_key": QUEUE,
        "serializer": "json",
        "time_limit": 5,
        "soft_time_limit": "x",
        "headers": {PLAIN_USER_IDS: True},
    }
    track_event.apply_async(("quick",), **options)
    track_event.apply_async(("more",), retries=3, ignore_result=False, shadow="s", priority=0)
    later = datetime.now(UTC) + timedelta(hours=1)
    track_event.apply_async(("late",), eta=later, expires=later, compression="gzip", task_id=7)
    quick, more, late = sent(client)
    assert quick["properties"]["delivery_tag"].startswith("analytics/")
    assert (more["headers"]["retries"], late["headers"]["id"]) == (3, "7")
    track_event.apply_async(("above",), priority=250)
    assert client.delete(f"{QUEUE}\x06\x169") == 1


def test_a_message_that_is_forwarded_keeps_its_id_and_a_bad_one_what_it_says(
    client: redis.Redis,
) -> None:
    track_event.forward(("page_view",), {"user_id": "u1"}, "id1", {})
    track_event.forward(("page_view", 7.5), {"nonsense": []}, "id2", {PLAIN_USER_IDS: True})
    good, bad = sent(client)
    assert (good["headers"]["id"], bad["headers"]["id"]) == ("id1", "id2")
    assert arguments(good)[1]["timestamp"]
    assert arguments(bad) == (["page_view", 7.5], {"nonsense": []})
    assert [PLAIN_USER_IDS in message["headers"] for message in (good, bad)] == [False, True]
    configure(enabled=False)
    track_event.forward(("page_view",), {}, "id3", {})
    assert client.llen(QUEUE) == 2
