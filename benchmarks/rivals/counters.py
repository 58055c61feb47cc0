"""What every rival does for an event: three counters, their lifetimes and their names, in one
pipeline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

PREFIX = "rival:"
DONE = f"{PREFIX}done"
"""How many events the rivals have counted, kept by the same pipeline."""
_LIFETIME_S = 7 * 86_400


def add_event(pipeline: Any, event_type: str, user_id: str) -> None:
    """Put an event's commands on a pipeline, of `redis` or of `redis.asyncio`."""
    now = datetime.now(UTC)
    day = f"{now:%Y-%m-%d}"
    for name in (
        f"{PREFIX}counter:{event_type}:{day}",
        f"{PREFIX}counter:{event_type}:{day}:{now:%H}",
        f"{PREFIX}user:{user_id}:{event_type}:{day}",
    ):
        pipeline.incr(name)
        pipeline.expire(name, _LIFETIME_S)
        pipeline.sadd(f"{PREFIX}pending", name)
    pipeline.incr(DONE)
