"""What the publish script does in Redis: how little for a usual message, and that the unusual one
leaves everything as it was."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
import redis
from kombu.exceptions import OperationalError

from pipeline import track_event
from pipeline.producer.publisher import Publisher
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys
from tests.helpers.support import QUEUE, sent

NUMBER = "analytics:producer:one"
TOTALS = "analytics:totals"
EVENT = b"{}"


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with redis_client(redis_url) as client:
        publisher = Publisher(client, Keys(), QUEUE, "one")
        yield publisher
        publisher.close()


def commands_run(client: redis.Redis) -> dict[str, int]:
    """How often each command was called since the statistics were reset."""
    found = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()}
    return {name: times for name, times in calls.items() if name != "config|resetstat"}


def books(client: redis.Redis) -> tuple[int, int]:
    fields = client.hmget(TOTALS, "published", "published_messages")
    return int(fields[0] or 0), int(fields[1] or 0)


@pytest.mark.usefixtures("sending")
def test_a_usual_publish_is_one_call_with_four_commands(client: redis.Redis) -> None:
    track_event.delay("first")
    client.config_resetstat()
    track_event.delay("second", "u1", {"path": "/"})
    assert commands_run(client) == {"evalsha": 1, "set": 1, "lpush": 1, "hincrby": 2}


@pytest.mark.parametrize("number", [7, 6, 1])
def test_a_number_that_is_not_above_the_last_changes_nothing(
    client: redis.Redis, publisher: Publisher, number: int
) -> None:
    publisher.send(EVENT, 2, 1, 7)
    publisher.send(b"[]", 3, 1, number)
    assert client.lrange(QUEUE, 0, -1) == [EVENT]
    assert client.get(NUMBER) == b"7"
    assert 86_000 < client.ttl(NUMBER) <= 86_400
    assert books(client) == (2, 1)


def test_numbers_are_compared_as_numbers(client: redis.Redis, publisher: Publisher) -> None:
    for number in (9, 10, 100, 99, 10**15):
        publisher.send(b"%d" % number, 1, 1, number)
    assert client.lrange(QUEUE, 0, -1) == [b"%d" % 10**15, b"100", b"10", b"9"]
    assert client.get(NUMBER) == b"%d" % 10**15


def test_a_message_of_any_bytes_and_size_arrives_as_it_is(
    client: redis.Redis, publisher: Publisher
) -> None:
    messages = [b"", b"\r\n$3\r\n", bytes(range(256)), b"x" * (1 << 20)]
    for number, message in enumerate(messages, 1):
        publisher.send(message, number, 5, number)
    assert client.lrange(QUEUE, 0, -1) == messages[::-1]
    assert books(client) == (10, 4)


@pytest.mark.parametrize("key", [QUEUE, TOTALS])
@pytest.mark.parametrize("earlier", [0, 1])
def test_what_is_refused_is_taken_under_its_number_when_the_fault_is_mended(
    client: redis.Redis, publisher: Publisher, key: str, earlier: int
) -> None:
    for number in range(1, earlier + 1):
        publisher.send(b"earlier", 1, 1, number)
    before, waiting = client.get(NUMBER), client.lrange(QUEUE, 0, -1)
    client.rename(key, "aside") if earlier else None
    client.set(key, "of another program")
    for _ in range(2):
        with pytest.raises(OperationalError, match="WRONGTYPE"):
            publisher.send(EVENT, 2, 1, earlier + 1)
        assert client.get(NUMBER) == before
        if key != QUEUE:
            assert client.lrange(QUEUE, 0, -1) == waiting
    client.delete(key)
    client.rename("aside", key) if earlier else None
    for _ in range(2):
        publisher.send(EVENT, 2, 1, earlier + 1)
    assert client.lrange(QUEUE, 0, -1) == [EVENT, *waiting]
    assert books(client) == (earlier + 2, earlier + 1)


def test_a_user_that_may_not_delete_is_refused_and_taken_later_as_well(
    client: redis.Redis, redis_url: str
) -> None:
    allowed = ("+evalsha", "+script|load", "+set", "+lpush", "+hincrby", "+auth", "+hello")
    client.acl_setuser("limited", enabled=True, passwords=["+limited"], keys=["*"], reset=True)
    client.execute_command("ACL", "SETUSER", "limited", "-@all", *allowed, "+client", "+select")
    client.set(QUEUE, "of another program")
    host = redis_url.rpartition("@")[2]
    try:
        with redis_client(f"redis://limited:limited@{host}") as limited:
            publisher = Publisher(limited, Keys(), QUEUE, "one")
            with pytest.raises(OperationalError, match="WRONGTYPE"):
                publisher.send(EVENT, 1, 1, 1)
            client.delete(QUEUE)
            publisher.send(EVENT, 1, 1, 1)
            publisher.close()
    finally:
        client.acl_deluser("limited")
    assert client.lrange(QUEUE, 0, -1) == [EVENT]


def test_books_that_are_no_number_are_left_and_the_event_is_taken(
    client: redis.Redis, publisher: Publisher
) -> None:
    client.hset(TOTALS, "published", "of another program")
    publisher.send(EVENT, 1, 1, 1)
    assert client.lrange(QUEUE, 0, -1) == [EVENT]
    assert client.hgetall(TOTALS) == {
        b"published": b"of another program",
        b"published_messages": b"1",
    }


@pytest.mark.usefixtures("sending")
def test_task_ids_are_those_of_celery_and_differ(client: redis.Redis) -> None:
    results = [track_event.delay("a").id for _ in range(20)]
    assert len(set(results)) == 20
    assert {UUID(one).version for one in results} == {4}
    assert all(str(UUID(one)) == one for one in results)
    assert [message["headers"]["id"] for message in sent(client)] == results
