"""Publishing once, and from processes of every kind."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from kombu.exceptions import OperationalError

from pipeline import track_event, track_events
from pipeline.producer import app as producer
from pipeline.producer.app import configure
from pipeline.producer.publisher import PublishUnconfirmed
from tests.helpers.processes import run_python
from tests.helpers.support import (
    QUEUE,
    arguments,
    counted_here,
    sent,
)

pytestmark = pytest.mark.usefixtures("sending")


# Publishing once


def test_publishes_of_many_threads_are_all_taken(client: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: track_event.delay("a", f"u{n}"), range(400)))
    tags = [message["properties"]["delivery_tag"].split("/") for message in sent(client)]
    assert len(tags) == len({tuple(tag) for tag in tags}) == 400
    last = {name.decode(): int(client.get(name) or 0) for name in client.scan_iter("*:producer:*")}
    assert sum(last.values()) == 400
    assert len(last) <= 8
    books = client.hgetall("analytics:totals")
    assert (books[b"published"], books[b"published_messages"]) == (b"400", b"400")
    for name in last:
        assert 86_000 < client.ttl(name) <= 86_400


def test_the_books_count_the_events_of_a_message(client: redis.Redis) -> None:
    track_events.delay([{"event_type": "a"}] * 7)
    books = client.hgetall("analytics:totals")
    assert (books[b"published"], books[b"published_messages"]) == (b"7", b"1")


def test_a_publish_under_a_number_that_was_taken_is_not_taken_again(client: redis.Redis) -> None:
    track_event.delay("a")
    [publisher] = producer.idle_publishers(os.getpid())
    for _ in range(3):
        publisher.send(b"the same again", 1, 1)
    assert len(sent(client)) == 1
    assert client.hget("analytics:totals", "published") == b"1"


def test_where_redis_is_away_the_error_lets_the_same_publish_be_tried_again(
    client: redis.Redis, redis_url: str, unreachable: None
) -> None:
    with pytest.raises(PublishUnconfirmed, match=r"did not take the event within 0\.1 s") as caught:
        track_event.delay("a")
    assert isinstance(caught.value, OperationalError)
    with pytest.raises(PublishUnconfirmed):
        caught.value.retry(timeout_s=0.1)
    assert not client.exists(QUEUE)


def test_retry_false_tries_once(unreachable: None) -> None:
    configure(publish_timeout_s=600)
    with pytest.raises(PublishUnconfirmed):
        track_event.apply_async(("a",), retry=False)


def test_a_full_redis_refuses_the_event_and_says_so(client: redis.Redis) -> None:
    configure(publish_timeout_s=0.1)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OperationalError, match="maxmemory") as caught:
            track_event.delay("a")
    finally:
        client.config_set("maxmemory", 0)
    assert not isinstance(caught.value, PublishUnconfirmed)
    assert list(client.scan_iter()) == []
    track_event.delay("a")
    assert len(sent(client)) == 1


@pytest.mark.parametrize("key", [QUEUE, "analytics:totals"])
def test_a_structure_of_the_wrong_type_refuses_the_event_and_changes_nothing(
    client: redis.Redis, key: str
) -> None:
    client.set(key, "somebody else's")
    with pytest.raises(OperationalError, match="Redis refused the event"):
        track_event.delay("a")
    assert client.keys() == [key.encode()]
    client.delete(key)


# Isolation


def run(program: str, **environment: str) -> str:
    """What a program prints that runs in a process of its own, where warnings are errors."""
    ran = run_python("-W", "error", "-c", program, environment=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_tasks_of_workers_and_of_applications_are_the_same_object() -> None:
    assert run(
        "import pipeline as p, tasks as t\n"
        "print(t.track_event is p.track_event, t.track_events is p.track_events)"
    ).split() == ["True", "True"]


def test_the_producer_loads_no_database_settings_or_worker_code() -> None:
    loaded = run("import sys, pipeline.producer; print(*sys.modules)").split()
    unwanted = {
        "sqlalchemy",
        "psycopg",
        "alembic",
        "pydantic",
        "config",
        "tasks",
        "flower",
        "typer",
    }
    assert not unwanted & set(loaded)
    assert "celery.worker.consumer" not in loaded


def test_an_applications_own_app_neither_shows_our_tasks_nor_becomes_ours() -> None:
    printed = run(
        "from celery import Celery, current_app\n"
        "theirs = Celery('theirs', broker='memory://')\n"
        "from pipeline import track_event\n"
        "theirs.finalize()\n"
        "print(current_app.main, track_event.app.main, 'analytics.track_event' in theirs.tasks)"
    )
    assert printed.split() == ["theirs", "analytics-producer", "False"]


def test_a_forked_child_publishes_under_a_number_of_its_own(
    client: redis.Redis, redis_url: str
) -> None:
    run(
        "import os\n"
        "from pipeline import track_event\n"
        "track_event.delay('parent')\n"
        "children = []\n"
        "for n in range(3):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        track_event.delay('child')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "track_event.delay('parent')\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]\n",
        ANALYTICS_REDIS_URL=redis_url,
    )
    messages = sent(client)
    producers: dict[str, set[str]] = {}
    for message in messages:
        producer_id = message["properties"]["delivery_tag"].rpartition("/")[0]
        producers.setdefault(producer_id, set()).add(arguments(message)[0][0])
    assert len(messages) == 5
    assert sorted(producers.values(), key=sorted) == [{"child"}] * 3 + [{"parent"}]


def test_a_setting_that_cannot_be_read_is_named() -> None:
    run(
        "from pipeline import track_event\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        track_event.delay('a')\n"
        "        raise AssertionError\n"
        "    except Exception as error:\n"
        "        assert type(error).__name__ == 'InvalidConfiguration', repr(error)\n"
        "        assert str(error).startswith('ANALYTICS_COUNT_BY={: ')\n",
        ANALYTICS_COUNT_BY="{",
    )


def _number_of(bucket: bytes) -> int:
    return int(bucket.rpartition(b":")[2])


def test_the_producer_reads_its_settings_from_the_environment(redis_url: str) -> None:
    run(
        "from pipeline import track_event\ntrack_event('page_view', properties={'path': '/'})\n",
        ANALYTICS_REDIS_URL=redis_url,
        ANALYTICS_PREFIX="other:",
        ANALYTICS_COUNT_BY='{"page_view": ["path"]}',
        ANALYTICS_COUNTER_TTL_S="1000",
    )
    with redis.Redis.from_url(redis_url) as client:
        of_value, of_quarter = sorted(client.scan_iter("other:live:*"), key=_number_of)
        assert len(list(client.hscan_iter(of_value, "page_view:path:/:*"))) == 1
        assert len(list(client.hscan_iter(of_quarter, "quarter:page_view:*"))) == 1
        client.delete(*client.scan_iter("other:*"))


def test_a_task_that_was_looked_at_before_anything_was_configured_works_all_the_same(
    client: redis.Redis, redis_url: str
) -> None:
    run(
        "from pipeline import configure, track_event\n"
        "from pipeline.errors import InvalidConfiguration\n"
        "assert track_event.name\n"
        "urgent = lambda name: track_event.s(name).set(priority=1).apply_async()\n"
        "for send in (track_event.delay, track_event, urgent):\n"
        "    try:\n"
        "        send('page_view')\n"
        "        raise AssertionError\n"
        "    except InvalidConfiguration as error:\n"
        "        assert 'ANALYTICS_REDIS_URL is not set' in str(error)\n"
        f"configure(redis_url={redis_url!r})\n"
        "track_event.delay('page_view')\n"
        "track_event('page_view')\n"
        "urgent('page_view')\n",
        ANALYTICS_DATA_DIR="nowhere",
    )
    assert len(sent(client)) == 2
    assert counted_here(client) == {"page_view": 1}
