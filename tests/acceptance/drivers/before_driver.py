"""A worker or a flusher in a process of its own: of the version before the buckets (`keys`), of
that before quarter hours (`hours`), or of today.

    python -m tests.acceptance.drivers.before_driver REDIS_URL POSTGRES_URL VERSION work|flush

`work` counts `MESSAGES` messages of the events of `events_of(SEED)`, as fast as it can, and ends.
`flush` flushes again and again until its input ends; `--once` flushes once. At the end prints how
many counters were stored; with `--refused`, for versions before, none may be, and it prints how
many flushes the ledger refused.
"""

from __future__ import annotations

import argparse
import select
import sys
from datetime import UTC, datetime, timedelta
from random import Random
from unittest.mock import patch

from sqlalchemy.exc import IntegrityError

from config.options import pipeline_options
from config.settings import Settings
from pipeline.errors import BatchesLeft
from pipeline.flushing import store
from pipeline.services import Services, connect
from tests.acceptance.drivers.truth import Seen
from tests.helpers.before_buckets.processes import FlusherBefore, WorkerBefore
from tests.helpers.measures.before_quarters import ENTER_BATCH, FlusherOfHours, WorkerOfHours
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
    workers = {"keys": WorkerBefore, "hours": WorkerOfHours}
    worker = workers[version](services) if version in workers else services.counters
    events = [
        event(one.event_type, one.user, properties={"path": one.path}, timestamp=one.at)
        for one in events_of(seed)
    ]
    for first in range(0, len(events), _A_MESSAGE):
        worker.apply([message(*events[first : first + _A_MESSAGE])], datetime.now(UTC))


def flush(services: Services, version: str) -> int:
    """One flush; that of a version before enters batches as it did."""
    if version == "keys":
        with patch.object(store, "ENTER_BATCH", ENTER_BATCH):
            return FlusherBefore(services).flush(_BATCH, _PART)
    return FlusherOfHours(services).flush(_BATCH) if version == "hours" else services.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_url")
    parser.add_argument("postgres_url")
    parser.add_argument("version", choices=["keys", "hours", "today"])
    parser.add_argument("role", choices=["work", "flush"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--refused", action="store_true")
    options = parser.parse_args()
    settings = Settings(count_by={"page_view": ["path"]}, flush_batch_size=_BATCH)
    services = connect(pipeline_options(settings), options.redis_url, options.postgres_url)
    stored = refused = 0
    if options.role == "work":
        work(services, options.version, options.seed)
    else:
        while True:
            try:
                stored += flush(services, options.version)
            except (IntegrityError, BatchesLeft) as error:
                if not options.refused or "form" not in str(error):
                    raise
                refused += 1
            if options.once or select.select([sys.stdin], [], [], 0)[0]:
                break
    assert not (stored and options.refused), stored
    print(refused if options.refused else stored, flush=True)
    services.close()


if __name__ == "__main__":
    main()
