"""An asyncio service that counts events from memory: one pipeline per event, 32 at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import redis.asyncio

from benchmarks.rivals.counters import add_event

AT_A_TIME = 32


async def count_all(url: str, events: Iterable[tuple[str, str]]) -> None:
    """Count the events, given as (event type, user)."""
    client = redis.asyncio.Redis.from_url(url, max_connections=AT_A_TIME)
    waiting = iter(events)

    async def count_some() -> None:
        for event_type, user_id in waiting:
            pipeline = client.pipeline(transaction=False)
            add_event(pipeline, event_type, user_id)
            await pipeline.execute()

    await asyncio.gather(*(count_some() for _ in range(AT_A_TIME)))
    await client.aclose()
