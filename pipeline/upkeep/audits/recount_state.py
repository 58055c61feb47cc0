"""What recounts know of one another, and what they have found: one small key in Redis, so that
whichever worker recounts next goes on, and all that is shown of it is the same."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, cast

import redis

from pipeline.redis.keys import Keys

_KEPT_S = 30 * 86_400


@dataclass
class RecountState:
    """`settings` is a digest of what decides which counters there are, and `changed_s` when it
    changed (Unix time; 0: never). Names no user. Days are under `name_key`."""

    settings: str = ""
    changed_s: float = 0.0
    excused: dict[str, list[str]] = field(default_factory=dict)
    """What differed when a day was first compared under these settings, and is not judged. A day
    that was not compared is not there."""
    found: dict[str, dict[str, int]] = field(default_factory=dict)
    """How many counters differ, by kind, such as "users of page_view"."""
    cursor: str = ""
    """The older day that was compared last."""
    audited_s: float = 0.0
    audit_took_s: float = 0.0
    """When an audit was last repeated because of what one had found, and how long it took."""


def read_recount_state(client: redis.Redis, keys: Keys) -> RecountState | None:
    """The state; None where there was no recount for a month. Raises redis.RedisError."""
    said = cast("bytes | None", client.get(keys.recount))
    if said is None:
        return None
    try:
        return RecountState(**json.loads(said))
    except (ValueError, TypeError):  # another version's
        return None


def write_recount_state(client: redis.Redis, keys: Keys, state: RecountState) -> None:
    """Keep the state for the next recount; a full Redis keeps the one before. Raises
    redis.RedisError when Redis is away."""
    with suppress(redis.ResponseError):
        client.set(keys.recount, json.dumps(asdict(state)), ex=_KEPT_S)


def forget_found(client: redis.Redis, keys: Keys, day: date) -> None:
    """Forget what was found of a day whose counters were made anew. Raises redis.RedisError."""
    state = read_recount_state(client, keys)
    found = [key for key in state.found if day_of_key(key) == day] if state else []
    if state is not None and found:
        for key in found:
            del state.found[key]
        write_recount_state(client, keys, state)


def name_key(way: str, day: date) -> str:
    """What stands for a day, compared in one of the ways of `recount.py`."""
    return f"{way} {day}"


def day_of_key(key: str) -> date:
    """The day that it stands for."""
    return date.fromisoformat(key.partition(" ")[2])


def describe_found(state: RecountState | None) -> dict[str, Any]:
    """What was found, as the verdict on the pipeline takes it: how many counters differ
    (`differences`), and of which days and kinds (`lines`), the newest day first."""
    found = state.found if state else {}
    lines = dict.fromkeys(
        f"{kind} on {day_of_key(key)}"
        for key in sorted(found, key=day_of_key, reverse=True)
        for kind in sorted(found[key])
    )
    return {"differences": sum(sum(one.values()) for one in found.values()), "lines": [*lines]}
