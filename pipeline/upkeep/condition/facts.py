"""What the verdict on a pipeline needs beside its status, as `find_faults` takes it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis
from sqlalchemy import Engine

from pipeline.flushing.ledger import newest_claim as newest_of_ledger
from pipeline.lanes import ticks
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.upkeep.audits.recount_state import describe_found, read_recount_state
from pipeline.upkeep.condition.discarding import read_discarding
from pipeline.upkeep.condition.history import find_backlog, read_samples
from pipeline.upkeep.condition.ledgers import read_claims
from pipeline.upkeep.condition.room import find_refusal
from pipeline.upkeep.heartbeats import measure_silence_s

_GROWS_FOR_S = 75
_MANY_MESSAGES = 1_000
"""Fewer are taken in one go; what waits for less than this is no backlog."""


def read_facts(
    client: redis.Redis, keys: Keys, newest_claim: tuple[int, int] | None
) -> dict[str, Any]:
    """`silence_s`, `refusal`, `discarding_workers`, `backlog`, what the last `recount` found,
    `redis_memory` where Redis says it and, where the newest claim of the ledger (epoch and number)
    is known, `went_back`. What the ledger has Redis has claimed before, so the ledger is to be read
    first.

    Raises `ServerUnavailable` when Redis is away.
    """
    with report_errors(redis=client):
        silence_s = measure_silence_s(client, keys)
        if (beats := ticks.measure_silence_s(client, keys)) is not None:
            silence_s["beat"] = beats
        facts: dict[str, Any] = {
            "silence_s": silence_s,
            "refusal": find_refusal(client),
            "discarding_workers": read_discarding(client, keys),
            "recount": describe_found(read_recount_state(client, keys)),
            "backlog": find_backlog(
                read_samples(client, keys, _GROWS_FOR_S), "queued", _MANY_MESSAGES
            ),
        }
        with suppress(redis.ResponseError):  # managed servers may refuse it
            memory = client.info("memory")
            facts["redis_memory"] = memory.get("used_memory", 0), memory.get("maxmemory", 0)
        if newest_claim is not None:
            facts["went_back"] = newest_claim > read_claims(client, keys)
    return facts


def read_newest_claim(engine: Engine) -> tuple[int, int]:
    """The newest claim of the ledger. Raises `ServerUnavailable` when Postgres is away."""
    with report_errors(postgres=engine), engine.connect() as connection:
        return newest_of_ledger(connection)
