"""One run of the archive in a process of its own that kills itself at a chosen moment.

    python -m tests.acceptance.archive_driver REDIS_URL POSTGRES_URL --at "after commit" --nth 2

The steps, in their order: read, ledger, copy, commit, finish; each has a "before" and an "after".
`--without-ledger` takes every entry for a new one: the version without what makes it exact. Prints
how many events were archived; with `--ready` first a line, for those who kill it at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy

from pipeline import archive
from pipeline.archive import Archive, ArchiveOptions
from pipeline.event_log import EventLog
from pipeline.keys import Keys
from pipeline.redis_connection import redis_client
from tests.acceptance.flush_driver import Stop, kill

MOMENTS = [
    f"{when} {step}"
    for step in ("read", "ledger", "copy", "commit", "finish")
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
    module._copy = stop.around("copy", archive._copy)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_url")
    parser.add_argument("postgres_url")
    parser.add_argument("--at", choices=MOMENTS)
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--events-at-once", type=int, default=1)
    parser.add_argument("--without-ledger", action="store_true")
    parser.add_argument("--ready", action="store_true")
    options = parser.parse_args()
    if options.without_ledger:
        sabotaged: Any = Archive
        sabotaged.enter = lambda self, _, read: {one.name for one in read}
    install(Stop(options.at, options.nth, kill))
    client = redis_client(options.redis_url)
    engine = sqlalchemy.create_engine(options.postgres_url)
    if options.ready:
        client.ping()
        engine.connect().close()
        print("ready", flush=True)
    # Entries of the dead are taken over at once.
    how = ArchiveOptions(options.events_at_once, entries_at_once=4, idle_s=0)
    print(archive.archive(EventLog(client, Keys()), Archive(engine), how), flush=True)
    client.close()
    engine.dispose()


if __name__ == "__main__":
    main()
