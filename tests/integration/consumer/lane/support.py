"""Messages as they stand in the events queue, and what is done with them there."""

from __future__ import annotations

import json
from typing import Any

import redis

from pipeline.contract import EVENTS_QUEUE, PRIORITY_SUFFIXES
from pipeline.redis.keys import Keys

KEYS = Keys()
LISTS = [EVENTS_QUEUE + suffix for suffix in PRIORITY_SUFFIXES]


def raw_message(body: str = "{}", tag: str = "tag-1", priority: int = 0, **headers: Any) -> str:
    """A message as kombu writes it."""
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {"delivery_info": {}, "priority": priority, "delivery_tag": tag},
        }
    )


def waiting(server: redis.Redis) -> int:
    """How many messages wait in the events queue, of all priorities."""
    return sum(server.llen(name) for name in LISTS)
