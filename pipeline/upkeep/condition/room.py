"""Whether there is room for what comes: in the event log, and in Redis and on its disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from pipeline.options import EventLogOptions
from pipeline.redis.scripts import Script

_MAY_WRITE = Script("pipeline.upkeep.condition.may_write")
_NEARLY_FULL = 0.95
"""An entry that no longer fits leaves the log below its bound."""

FULL, READ_ONLY, DISK = "full", "read-only", "disk"


def find_log_warnings(log: Mapping[str, Any], options: EventLogOptions) -> list[str]:
    """A line with the remedy where the event log has no room left, or hardly any; `log` is what
    `EventLog.read_status` says."""
    shares = (
        log["entries"] / (options.max_entries * options.partitions),
        log["bytes"] / (options.max_bytes * options.partitions),
    )
    if max(shares) < _NEARLY_FULL:
        return []
    return [
        f"event log is {min(1, max(shares)):.0%} full, and what finds no room in it is counted and "
        "not logged: see whether a flush worker archives (`analytics worker flush`) and Postgres "
        "is fast enough, or raise ANALYTICS_EVENT_LOG_MAX_BYTES or _MAX_ENTRIES"
    ]


def find_refusal(client: redis.Redis) -> str | None:
    """Why Redis would refuse an event that is published now: `FULL`, `READ_ONLY`, `DISK` or what it
    says; None where it takes events. Writes nothing.

    Raises redis.RedisError when Redis does not answer.
    """
    try:
        _MAY_WRITE.run(client, keys=[])
    except redis.exceptions.OutOfMemoryError:
        return FULL
    except redis.exceptions.ReadOnlyError:
        return READ_ONLY
    except redis.exceptions.NoPermissionError:
        return None  # whether producers, who are other users of Redis, may is not known
    except redis.ResponseError as error:
        return DISK if str(error).startswith("MISCONF") else str(error)
    return None
