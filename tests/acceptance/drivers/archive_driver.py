"""Runs of the archive in processes of their own that are killed at a chosen moment, or at random.

    python -m tests.acceptance.drivers.archive_driver REDIS_URL POSTGRES_URL --at "after read"
    python -m tests.acceptance.drivers.archive_driver REDIS_URL POSTGRES_URL --kills 100 --seed 7

The steps, in their order: read, ledger, copy, catalogue, commit, finish; each has a "before" and an
"after".
`--without-ledger` takes every entry for a new one: the version without what makes it exact. Prints
how many events were archived. With `--kills`, this process makes one child after the other, which
archives, and kills each with SIGKILL some time after it began; prints how many it killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy

from pipeline.event_log import archive, catalogue
from pipeline.event_log.archive import Archive
from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.event_log.streams import EventLog
from pipeline.postgres.engine import postgres_engine
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys
from tests.acceptance.drivers.moments import Stop, kill, parser_of

LONGEST_LIFE_S = 0.2
MOMENTS = [
    f"{when} {step}"
    for step in ("read", "ledger", "copy", "catalogue", "commit", "finish")
    for when in ("before", "after")
]


def install(stop: Stop) -> None:
    """Wrap the product's functions at the steps of a run."""
    product: Any = EventLog
    product.read = stop.around("read", EventLog.read)
    product.finish = stop.around("finish", EventLog.finish)
    product = Archive
    product.enter = stop.around("ledger", Archive.enter)
    transaction = Archive.transaction

    @contextmanager
    def stopping_transaction(self: Archive) -> Iterator[sqlalchemy.Connection]:
        with transaction(self) as connection:
            yield connection
            stop.reach("before commit")
        stop.reach("after commit")

    product.transaction = stopping_transaction
    module: Any = archive
    module.copy_events = stop.around("copy", archive.copy_events)
    module.catalogue.enter = stop.around("catalogue", catalogue.enter)


def main() -> None:
    parser = parser_of(MOMENTS)
    parser.add_argument("--events-at-once", type=int, default=1)
    parser.add_argument("--without-ledger", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.without_ledger:
        sabotaged: Any = Archive
        sabotaged.enter = lambda self, _, read: {one.name for one in read}
    install(Stop(options.at, options.nth, kill))
    if options.kills:
        print(kill_children(options, random.Random(options.seed)), flush=True)
    else:
        print(run(options), flush=True)


def run(options: argparse.Namespace) -> int:
    """Archive; returns how many events."""
    client = redis_client(options.redis_url)
    engine = postgres_engine(options.postgres_url)
    # Entries of the dead are taken over at once.
    how = ArchiveOptions(options.events_at_once, entries_at_once=4, idle_s=0)
    archived = archive_entries(EventLog(client, Keys()), Archive(engine), how)
    client.close()
    engine.dispose()
    return archived


def kill_children(options: argparse.Namespace, chosen: random.Random) -> int:
    """Start and kill so many; one that ended before is not counted."""
    killed = 0
    while killed < options.kills:
        child = os.fork()
        if not child:
            run(options)
            os._exit(0)
        time.sleep(chosen.random() * LONGEST_LIFE_S)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    return killed


if __name__ == "__main__":
    main()
