"""A worker that is slow beyond the visibility timeout acknowledges what another holds by then."""

from __future__ import annotations

import redis
from kombu import Connection

from config.celery import celery_config
from config.settings import Settings
from tasks.transport import transport

QUEUE = "analytics.events"


def connection(redis_url: str) -> Connection:
    transport.install()
    options = celery_config(Settings(), redis_url)["broker_transport_options"]
    return Connection(redis_url, transport_options=options)


def test_a_late_acknowledgement_takes_nothing_from_the_worker_that_holds_the_message_now(
    redis_url: str, client: redis.Redis
) -> None:
    with connection(redis_url) as slow, connection(redis_url) as quick:
        slow.default_channel.queue_declare(QUEUE)
        with slow.Producer() as producer:
            producer.publish({"n": 1}, exchange="", routing_key=QUEUE)
        held_by_slow = slow.default_channel.basic_get(QUEUE)
        quick.default_channel.qos.restore("RPUSH", "older", -1, 10)
        held_by_quick = quick.default_channel.basic_get(QUEUE)
        assert held_by_quick.payload == {"n": 1}

        held_by_slow.ack()

        assert client.hkeys("analytics:unacked") == [held_by_quick.delivery_tag.encode()]
        held_by_quick.ack()
        assert client.hlen("analytics:unacked") == 0
