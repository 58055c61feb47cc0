"""The queue before the publisher."""

from __future__ import annotations

import asyncio

import redis

from pipeline.web.collector.batching import BatchingPublisher
from tests.helpers.support import arguments, sent


def test_keys_take_turns_so_that_none_waits_for_all_of_another(
    sending: None, client: redis.Redis
) -> None:
    async def publish() -> None:
        publisher = BatchingPublisher()
        large = [b'{"event_type":"junk","properties":{"a":"%b"}}' % (b"x" * 400_000)]
        waiting = [asyncio.create_task(publisher.publish(large, "page")) for _ in range(10)]
        await asyncio.sleep(0)
        small = [b'{"event_type":"sale"}']
        waiting += [asyncio.create_task(publisher.publish(small, "server")) for _ in range(3)]
        await asyncio.sleep(0)
        async with publisher.running():
            await asyncio.gather(*waiting)

    asyncio.run(publish())
    order = [event["event_type"] for message in sent(client) for event in arguments(message)[0][0]]
    assert order.count("junk") == 10
    assert [place for place, name in enumerate(order) if name == "sale"] == [1, 3, 5]
