"""What an application imports: sending events in every way that Celery tasks can be called."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, group, signals
from celery.result import AsyncResult

from pipeline import track_event, track_events
from pipeline.contract import MAX_EVENTS_PER_MESSAGE
from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.producer import app as producer
from pipeline.producer.app import configure
from tests.helpers.support import NOW, QUEUE, arguments, counted_here, sent

pytestmark = pytest.mark.usefixtures("sending")

FIELDS = {
    "user_id": "u1",
    "properties": {"path": "/"},
    "timestamp": "2025-03-14T15:09:26Z",
    "event_id": "e1",
}


# Ways to call


def test_delay_sends_the_event_and_returns_its_id(client: redis.Redis) -> None:
    result = track_event.delay("page_view", "u1", {"path": "/"}, NOW, "e1")
    [message] = sent(client)
    assert message["headers"]["task"] == "analytics.track_event"
    assert message["headers"]["id"] == result.id
    assert arguments(message) == (["page_view"], FIELDS)


def test_apply_async_sends_the_event_under_the_id_it_is_given(client: redis.Redis) -> None:
    result = track_event.apply_async(("page_view",), {"user_id": "u1"}, task_id="my-id")
    [message] = sent(client)
    assert (
        result.id == message["headers"]["id"] == message["properties"]["correlation_id"] == "my-id"
    )
    assert arguments(message)[1]["user_id"] == "u1"


def test_the_result_of_a_publish_is_a_celery_result_like_any_other() -> None:
    result = track_event.delay("page_view")
    plain = AsyncResult(result.id, app=track_event.app)
    assert isinstance(result, AsyncResult)
    assert (result, repr(result), hash(result)) == (plain, repr(plain), hash(plain))
    assert (result.parent, result.ignored, result.app) == (None, False, track_event.app)
    assert type(result.backend) is type(plain.backend)
    for again in (copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert (type(again), again) == (AsyncResult, plain)
    called: list[object] = []
    result.then(called.append)
    result.on_ready("ready")
    assert called == ["ready"]


def test_signatures_send_the_event(client: redis.Redis) -> None:
    track_event.s("one", user_id="u1").delay()
    track_event.si("two").apply_async()
    group(track_event.s("three"), track_event.s("four")).apply_async()
    assert sorted(arguments(message)[0][0] for message in sent(client)) == [
        "four",
        "one",
        "three",
        "two",
    ]


def test_track_events_sends_many_in_one_message(client: redis.Redis) -> None:
    track_events.delay([{"event_type": "a", **FIELDS}, {"event_type": "b", "timestamp": NOW}])
    [message] = sent(client)
    assert message["headers"]["task"] == "analytics.track_events"
    assert arguments(message)[0] == [
        [
            {"event_type": "a", **FIELDS},
            {"event_type": "b", "timestamp": "2025-03-14T15:09:26Z"},
        ]
    ]


@pytest.mark.parametrize("events", [1, 2, 30, 31, 400])
def test_tools_are_shown_the_arguments_as_celery_cuts_them(
    client: redis.Redis, events: int
) -> None:
    track_events.delay([{"event_type": "a", "timestamp": NOW}] * events)
    [message] = sent(client)
    whole = repr((arguments(message)[0][0],))
    cut = whole if len(whole) <= 1024 else f"{whole[:1023]}…"
    assert message["headers"]["argsrepr"] == cut


def test_an_event_is_stamped_when_it_is_sent(client: redis.Redis) -> None:
    before = datetime.now(UTC)
    track_event.delay("a")
    track_events.delay([{"event_type": "b"}])
    after = datetime.now(UTC)
    one, many = sent(client)
    stamps = [arguments(one)[1]["timestamp"], arguments(many)[0][0][0]["timestamp"]]
    assert before <= datetime.fromisoformat(stamps[0]) <= datetime.fromisoformat(stamps[1]) <= after


def test_a_direct_call_counts_the_event_here(client: redis.Redis) -> None:
    track_event("page_view", timestamp=NOW)
    track_events([{"event_type": "page_view"}, {"event_type": "click"}])
    assert counted_here(client) == {"page_view": 2, "click": 1}
    assert not client.exists(QUEUE)


def test_in_eager_mode_events_are_counted_here(client: redis.Redis) -> None:
    app = Celery("theirs")
    app.conf.task_always_eager = True
    app.set_current()
    try:
        track_event.delay("page_view", timestamp=NOW)
        track_event.s("page_view", timestamp=NOW).apply_async()
        track_events.delay([{"event_type": "page_view", "timestamp": NOW}])
    finally:
        app.close()
        producer.app.set_current()
    assert counted_here(client) == {"page_view": 3}
    assert not client.exists(QUEUE)


def test_in_eager_mode_errors_are_raised_where_the_application_asks_for_them(
    unreachable: None,
) -> None:
    app = Celery("theirs")
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    app.set_current()
    try:
        with pytest.raises(redis.ConnectionError):
            track_event.delay("page_view")
    finally:
        app.close()
        producer.app.set_current()


def test_an_unusual_option_goes_celerys_own_way(client: redis.Redis) -> None:
    track_event.apply_async(("a",), countdown=3_600)
    track_event.apply_async(("b",), priority=5, expires=60)
    texts = [text for name in client.scan_iter(f"{QUEUE}*") for text in client.lrange(name, 0, -1)]
    messages = [json.loads(text) for text in texts]
    assert sorted(arguments(message)[0][0] for message in messages) == ["a", "b"]
    assert [message["headers"]["eta"] is not None for message in messages].count(True) == 1
    client.delete(*client.scan_iter(f"{QUEUE}*"))


def test_our_message_has_the_form_of_celerys_own(client: redis.Redis) -> None:
    track_event.delay("page_view", **FIELDS)

    def listen(**_: Any) -> None:
        """Somebody who listens may change the message, so Celery publishes it."""

    signals.before_task_publish.connect(listen)
    try:
        track_event.delay("page_view", **FIELDS)
    finally:
        signals.before_task_publish.disconnect(listen)
    ours, celerys = sent(client)
    assert arguments(ours) == arguments(celerys)
    for message in (ours, celerys):
        for headers, names in [("headers", ["id", "root_id"]), ("properties", ["correlation_id"])]:
            for name in names:
                message[headers].pop(name)
        message["properties"].pop("delivery_tag")
        message["properties"].pop("reply_to")  # nobody replies
        message.pop("body")
    # Celery leaves out what it has nothing to say about.
    known = {name: ours["headers"][name] for name in celerys["headers"]}
    assert (known, ours["properties"]) == (celerys["headers"], celerys["properties"])


# What is refused


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_type": ""}, "event_type"),
        ({"event_type": None}, "event_type"),
        ({"event_type": "a", "user_id": 7.5}, "user_id"),
        ({"event_type": "a", "properties": {"a": float("nan")}}, "properties.a"),
        ({"event_type": "a", "timestamp": "yesterday"}, "timestamp"),
        ({"event_type": "a", "timestamp": datetime(2025, 1, 1)}, "timestamp"),  # noqa: DTZ001
        ({"event_type": "a", "timestamp": NOW + timedelta(days=10_000)}, "timestamp"),
        ({"event_type": "a", "event_id": "x" * 101}, "event_id"),
    ],
    ids=str,
)
def test_an_invalid_event_is_refused_before_anything_is_sent(
    unreachable: None, fields: dict[str, Any], field: str
) -> None:
    calls = [track_event.delay, lambda **f: track_event.s(**f).apply_async(), track_event]
    for call in calls:
        with pytest.raises(InvalidEvent) as caught:
            call(**fields)
        assert caught.value.field == field
    for many in (track_events.delay, track_events):
        with pytest.raises(InvalidEvent) as caught:
            many([{"event_type": "a"}, fields])
        assert caught.value.field == f"events[1].{field}"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("a",), {"userId": "u1"}),
        (("a", "u", {}, None, "e", "more"), {}),
        (("a",), {"event_type": "a"}),
    ],
    ids=str,
)
def test_wrong_arguments_are_a_type_error(
    unreachable: None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    for call in (track_event.delay, track_event):
        with pytest.raises(TypeError, match=r"argument"):
            call(*args, **kwargs)


@pytest.mark.parametrize(
    "events", ["text", b"bytes", {"event_type": "a"}, 7, None, {1, 2}], ids=str
)
def test_many_events_must_be_a_list(unreachable: None, events: object) -> None:
    with pytest.raises(InvalidEvent, match="must be a list"):
        track_events.delay(events)


def test_a_message_takes_a_thousand_events_and_no_more(client: redis.Redis) -> None:
    events = [{"event_type": "a"}] * MAX_EVENTS_PER_MESSAGE
    track_events.delay(events)
    with pytest.raises(InvalidEvent, match="at most 1000 fit one message"):
        track_events.delay([*events, {"event_type": "a"}])
    [message] = sent(client)
    assert len(arguments(message)[0][0]) == 1_000


def test_a_message_takes_a_mebibyte_and_no_more(client: redis.Redis) -> None:
    large = {"event_type": "a", "timestamp": NOW, "properties": {"a": "x" * 32_000}}
    track_events.delay([large] * 32)
    with pytest.raises(InvalidEvent, match="at most 1048576 bytes fit one message"):
        track_events.delay([large] * 33)
    assert len(sent(client)) == 1


def test_without_an_address_of_redis_the_error_says_what_to_set(tmp_path: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="ANALYTICS_REDIS_URL is not set"):
        configure(redis_url=None, data_dir=tmp_path)
        track_event.delay("a")
