"""A worker told to stop while Redis counts nothing gives the message back at once."""

from __future__ import annotations

import redis

from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services
from tests.helpers.support import Workers, counted_here, eventually
from tests.integration.consumer.lane.support import waiting


def test_a_worker_stopped_while_redis_counts_nothing_gives_the_message_back(
    sending: None, client: redis.Redis, services: Services, workers: Workers
) -> None:
    client.set(services.keys.pending_flush, "somebody else's")
    track_event.delay("page_view")
    worker = workers.start("events")
    eventually(lambda: "Redis cannot count" in worker.said())

    worker.stop()

    assert waiting(client) == 1
    assert not client.exists(services.keys.unacked)
    assert "Traceback" not in worker.said()
    client.delete(services.keys.pending_flush)
    workers.start("events")
    eventually(lambda: counted_here(client) == {"page_view": 1})
