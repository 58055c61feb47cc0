"""Messages are fetched: all of them, in order, entered as unacknowledged, within the limits."""

from __future__ import annotations

import json

import pytest
import redis

from pipeline.contract import EVENTS_QUEUE
from pipeline.intake.unacknowledged import MAX_BYTES, Fetch
from tests.integration.consumer.lane.full_redis import full
from tests.integration.consumer.lane.support import KEYS, LISTS, raw_message, waiting


def take(client: redis.Redis, *queues: str, most: int = 500) -> list[tuple[str, str]]:
    """Tags, and bodies."""
    found = Fetch(client, KEYS, queues or (EVENTS_QUEUE,), most).answer()
    return [(tag, json.loads(text)["body"]) for tag, text in found]


def test_messages_come_in_order_and_are_unacknowledged_in_kombus_format(
    client: redis.Redis,
) -> None:
    texts = [raw_message(f"{n}", tag=f"t{n}").encode() for n in range(600)]
    client.lpush(EVENTS_QUEUE, *texts)

    found = Fetch(client, KEYS, [EVENTS_QUEUE]).answer()

    assert [text for _, text in found] == texts[:500]
    assert waiting(client) == 100
    for tag, text in found:
        entry = client.hget(KEYS.unacked, tag)
        assert entry is not None
        assert json.loads(entry) == [json.loads(text), "", EVENTS_QUEUE]
        assert text in entry, "the bytes of the message are those that were published"
    assert client.zcard(KEYS.unacked_index) == client.hlen(KEYS.unacked) == 500


def test_the_highest_priority_comes_first(client: redis.Redis) -> None:
    # Redis's transport counts 0 as the highest priority, as kombu documents.
    for priority, name in reversed(list(enumerate(LISTS))):
        client.lpush(name, raw_message(f"{priority}", tag=f"t{priority}"))
    assert [body for _, body in take(client, most=3)] == ["0", "1", "2"]
    assert [body for _, body in take(client)] == ["3"]


def test_no_more_bytes_are_fetched_than_the_limit(client: redis.Redis) -> None:
    client.lpush(EVENTS_QUEUE, *[raw_message("x" * (MAX_BYTES // 3), tag=f"{n}") for n in range(5)])
    assert len(take(client)) == 3
    assert len(take(client)) == 2


def test_several_queues_are_fetched_from_and_each_message_knows_its_own(
    client: redis.Redis,
) -> None:
    client.lpush(EVENTS_QUEUE, raw_message("a", tag="a"))
    client.lpush("shop:events", raw_message("b", tag="b"))
    found = dict(take(client, EVENTS_QUEUE, "shop:events"))
    queues = {
        body: json.loads(client.hget(KEYS.unacked, tag) or "")[2] for tag, body in found.items()
    }
    assert queues == {"a": EVENTS_QUEUE, "b": "shop:events"}


def test_a_server_that_has_forgotten_the_script_is_sent_it_again(client: redis.Redis) -> None:
    for number in range(2):
        client.script_flush()
        client.lpush(EVENTS_QUEUE, raw_message(f"{number}", tag=f"{number}"))
        assert [body for _, body in take(client)] == [f"{number}"]


def test_a_full_server_is_drained(client: redis.Redis) -> None:
    client.lpush(EVENTS_QUEUE, raw_message("a"))
    with full(client):
        assert [body for _, body in take(client)] == ["a"]
    assert client.hlen(KEYS.unacked) == 1


def test_a_queue_that_is_no_list_is_refused_and_nothing_changes(client: redis.Redis) -> None:
    client.lpush(EVENTS_QUEUE, raw_message("a"))
    client.set(LISTS[1], "not a list")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        take(client)
    assert client.llen(EVENTS_QUEUE) == 1
    assert not client.exists(KEYS.unacked, KEYS.unacked_index)
    client.delete(LISTS[1])


# Tags


def test_two_messages_with_one_tag_are_both_taken(client: redis.Redis) -> None:
    client.lpush(EVENTS_QUEUE, raw_message("a"), raw_message("b"))
    found = take(client)
    assert [body for _, body in found] == ["a", "b"]
    assert len(dict(found)) == client.hlen(KEYS.unacked) == client.zcard(KEYS.unacked_index) == 2


def test_a_message_that_is_unacknowledged_elsewhere_is_taken_under_another_tag(
    client: redis.Redis,
) -> None:
    tags = set()
    for _ in range(2):
        client.lpush(EVENTS_QUEUE, raw_message("a"))
        tags |= {tag for tag, _ in take(client)}
    assert len(tags) == client.hlen(KEYS.unacked) == 2


@pytest.mark.parametrize(
    "text",
    [
        raw_message(delivery_tag="forged"),
        raw_message(note='"delivery_tag": "forged"}}'),
        raw_message('"delivery_tag": "forged"'),
    ],
)
def test_no_header_is_taken_for_the_tag(client: redis.Redis, text: str) -> None:
    [(tag, _)] = take_texts(client, text)
    assert "forged" not in tag
    assert client.hkeys(KEYS.unacked) == [tag.encode()]


def test_the_tag_of_a_producer_is_known(client: redis.Redis) -> None:
    last = {"priority": 0, "delivery_tag": "analytics/x/1"}
    [(tag, _)] = take_texts(client, json.dumps({"body": "", "properties": last}))
    assert tag.startswith("analytics/x/1~")


@pytest.mark.parametrize("text", [b"\xff\xfe not JSON", b"{}", b"[1, 2]", b""])
def test_what_has_no_tag_is_taken_as_it_is(client: redis.Redis, text: bytes) -> None:
    [(tag, taken)] = take_texts(client, text)
    assert taken == text
    assert client.hkeys(KEYS.unacked) == [tag.encode()]


def take_texts(client: redis.Redis, *texts: str | bytes) -> list[tuple[str, bytes]]:
    client.lpush(EVENTS_QUEUE, *texts)
    return Fetch(client, KEYS, [EVENTS_QUEUE]).answer()
