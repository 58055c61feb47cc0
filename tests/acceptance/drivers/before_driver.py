"""A worker or a flusher in a process of its own, of the version before the buckets or of today.

    python -m tests.acceptance.drivers.before_driver REDIS_URL POSTGRES_URL before|today work|flush

`work` counts `MESSAGES` messages of the events of `events_of(SEED)`, as fast as it can, and ends.
`flush` flushes again and again until its input ends; `--once` flushes once.
"""

from __future__ import annotations

import argparse
import select
import sys
from datetime import UTC, datetime, timedelta
from random import Random

from config.options import pipeline_options
from config.settings import Settings
from pipeline.services import Services, connect
from tests.acceptance.drivers.truth import Seen
from tests.helpers.before_buckets.processes import FlusherBefore, WorkerBefore
from tests.helpers.support import event, message

MESSAGES = 60
_A_MESSAGE = 10
_NOON = datetime(2025, 3, 14, 12, tzinfo=UTC)
_BATCH = 12
"""Counters in a batch: with so few there are many batches, most of which have part of the users."""
_PART = 5


def events_of(seed: int) -> list[Seen]:
    """What the worker with this seed counts; others count for the same users and paths."""
    random = Random(seed)
    return [
        Seen(
            f"user {random.randrange(20)}",
            f"/{random.randrange(9)}",
            _NOON - timedelta(hours=9 * random.randrange(4)),
        )
        for _ in range(MESSAGES * _A_MESSAGE)
    ]


def work(services: Services, version: str, seed: int) -> None:
    """Count all events of the seed."""
    worker = WorkerBefore(services) if version == "before" else services.counters
    events = [
        event(one.event_type, one.user, properties={"path": one.path}, timestamp=one.at)
        for one in events_of(seed)
    ]
    for first in range(0, len(events), _A_MESSAGE):
        worker.apply([message(*events[first : first + _A_MESSAGE])], datetime.now(UTC))


def flush(services: Services, version: str) -> int:
    """One flush."""
    if version == "before":
        return FlusherBefore(services).flush(_BATCH, _PART)
    return services.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_url")
    parser.add_argument("postgres_url")
    parser.add_argument("version", choices=["before", "today"])
    parser.add_argument("role", choices=["work", "flush"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    settings = Settings(count_by={"page_view": ["path"]}, flush_batch_size=_BATCH)
    services = connect(pipeline_options(settings), options.redis_url, options.postgres_url)
    stored = 0
    if options.role == "work":
        work(services, options.version, options.seed)
    else:
        while True:
            stored += flush(services, options.version)
            if options.once or select.select([sys.stdin], [], [], 0)[0]:
                break
    print(stored, flush=True)
    services.close()


if __name__ == "__main__":
    main()
