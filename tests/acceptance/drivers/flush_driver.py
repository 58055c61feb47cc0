"""One flush in a process of its own that kills itself, or pauses, at a chosen moment.

    python -m tests.acceptance.drivers.flush_driver REDIS_URL POSTGRES_URL --at "after commit"

The steps of a flush, in their order: claim (of each batch) or take over (of one that was left),
read (of each page of its buckets, here of a field or two), stage (each statement that fills a
temporary table, with `--staged`), ledger, upsert (into each table), commit, settle (of each batch);
each has a "before" and an "after". `--nth 3` is the third time that the moment comes. A pause
prints the moment and ends with the next line of standard input. `--without-ledger` takes every
batch for a new one: the version without what makes a flush exact. `--score-of-before` gives open
batches the score by which the version before the buckets finds them. At the end prints how many
counters were stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy

from pipeline.flushing import claims, store
from pipeline.flushing.claims import Claim, Claims, Fields
from pipeline.flushing.flush import flush
from pipeline.flushing.store import Store
from pipeline.postgres.engine import postgres_engine
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys
from tests.acceptance.drivers.moments import Stop, kill, parser_of

MOMENTS = [
    f"{when} {step}"
    for step in (*("claim", "take over", "read", "stage", "ledger", "upsert", "commit", "settle"),)
    for when in ("before", "after")
]


def pause(moment: str) -> None:
    print(moment, flush=True)
    sys.stdin.readline()


def install(stop: Stop) -> None:
    """Wrap the product's functions at the steps of a flush."""
    product: Any = Claims
    product.claim = stop.around("claim", Claims.claim)
    product.take_over = stop.around("take over", Claims.take_over)
    product.settle = stop.around("settle", Claims.settle)
    read_buckets = Claims.read_buckets

    def stopping_read(self: Claims, claim: Claim) -> Iterator[Fields]:
        pages = read_buckets(self, claim)
        read = stop.around("read", next)
        while (page := read(pages, None)) is not None:
            yield page

    product.read_buckets = stopping_read
    product = sqlalchemy.Connection
    execute = sqlalchemy.Connection.execute
    steps = dict.fromkeys(map(id, store.UPSERTS.values()), "upsert")
    steps[id(store.ENTER_BATCH)] = "ledger"
    for staging in store.STAGINGS.values():
        steps |= {id(staging.create): "stage", id(staging.insert): "stage"}
        steps[id(staging.upsert)] = "upsert"

    def stopping_execute(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        step = steps.get(id(statement))
        run = stop.around(step, execute) if step else execute
        return run(self, statement, *args, **kwargs)

    product.execute = stopping_execute
    product = Store
    transaction = Store.transaction

    @contextmanager
    def stopping_transaction(self: Store, *args: Any) -> Iterator[store.FlushTransaction]:
        with transaction(self, *args) as opened:
            yield opened
            stop.reach("before commit")
        stop.reach("after commit")

    product.transaction = stopping_transaction


def give_score_of_before() -> None:
    """Enter each batch as the version before would."""
    product: Any = Claims
    claim_today = Claims.claim

    def claim(self: Claims, batch_id: str, *args: Any) -> Claim:
        claimed = claim_today(self, batch_id, *args)
        score = self.client.zscore(self.keys.batches, batch_id) or 0
        if score >= claims.OPEN:
            self.client.zadd(self.keys.batches, {batch_id: claims.OPEN - score})
        return claimed

    product.claim = claim


def main() -> None:
    parser = parser_of(MOMENTS)
    parser.add_argument("--then", choices=["kill", "pause"], default="kill")
    parser.add_argument("--batch-size", type=int, default=1_000)
    parser.add_argument("--without-ledger", action="store_true")
    parser.add_argument("--staged", action="store_true")
    parser.add_argument("--score-of-before", action="store_true")
    options = parser.parse_args()
    if options.score_of_before:
        give_score_of_before()
    claims.FIELDS_AT_ONCE = 1
    if options.staged:
        store.SORTED_IN_MEMORY, store._STAGED_AT_ONCE = 0, 2
    if options.without_ledger:
        sabotaged: Any = store.FlushTransaction
        sabotaged._enter = lambda _self, _claim: True
    install(Stop(options.at, options.nth, kill if options.then == "kill" else pause))
    keys, client = Keys(), redis_client(options.redis_url)
    engine = postgres_engine(options.postgres_url)
    print(flush(Claims(client, keys), Store(engine, keys), options.batch_size), flush=True)
    client.close()
    engine.dispose()


if __name__ == "__main__":
    main()
