"""Counters -> Postgres, exactly once.

Batches that earlier flushes left are stored first, then counters are claimed and stored until none
is pending. Whatever step a crash falls on, the next flush finds the batch in the journal and
repeats it: the ledger decides whether it counts. Several flushes may run at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock
from uuid import uuid4

from sqlalchemy.exc import DBAPIError

from pipeline.counting.counters import Claim, Counters
from pipeline.flushing.pace import CLAIMED_AT_ONCE, Pace
from pipeline.flushing.store import Store

LANES = 2
"""While Postgres stores one lane's batch, the other claims its next."""
_WORTH_LANES = 20_000
_LEFT_OVER_LOCK_TIMEOUT_S = 5.0
_NO_PATIENCE_S = 0.1

logger = logging.getLogger(__name__)


def flush(counters: Counters, store: Store, batch_size: int) -> int:
    """Store every pending counter and return how many were stored.

    `batch_size` counters are stored in a transaction. Raises sqlalchemy.exc.OperationalError when
    Postgres is away and redis.RedisError when Redis is: what was claimed stays in the journal, is
    read from there, and the next flush stores it. Raises `RedisWentBack` when Redis is older than
    what is stored.
    """
    began_s = counters.now_s()
    stored = store_left_over(counters, store)
    pending = counters.pending()
    lanes = LANES if pending > _WORTH_LANES else 1
    # Traffic goes on, so twice what was pending is taken before the flush lets it be.
    budget = 2 * pending // lanes + batch_size
    pace = Pace(counters.requests)
    lane = partial(store_pending, counters, store, batch_size, budget, Lock(), pace)
    with ThreadPoolExecutor(lanes, "flush") as pool:
        running = [pool.submit(lane) for _ in range(lanes)]
    stored += sum(one.result() for one in running)
    counters.note_flush(began_s)
    if stored:
        logger.info("flushed %d counters", stored)
    return stored


def store_pending(
    counters: Counters, store: Store, batch_size: int, budget: int, turn: Lock, pace: Pace
) -> int:
    """Claim at this pace, store and settle until nothing is pending or `budget` counters were
    taken; returns how many were stored. Postgres works on one lane at a time: in its `turn`."""
    stored = 0
    pending = True
    while pending and budget > 0:
        with store.transaction() as transaction:  # first: while Postgres is away nothing is claimed
            batch = claim_batch(counters, batch_size, transaction.newest_claim(), pace)
            if batch.number:
                stored += transaction.save([batch], turn)
        if batch.number:
            counters.settle(batch.batch_id)
        pending = batch.pending > 0
        budget -= batch_size
    return stored


def claim_batch(
    counters: Counters, size: int, newest_stored: tuple[int, int], pace: Pace | None = None
) -> Claim:
    """A new batch of up to `size` counters, claimed in small parts or at this pace."""
    batch_id, counts, part = uuid4().hex, Counter[str](), 0
    while True:
        part += 1
        at_once = pace.at_once() if pace else CLAIMED_AT_ONCE
        limit = min(at_once, size - len(counts))
        claim = counters.claim(batch_id, limit, newest_stored, part)
        counts.update(claim.counts)  # adds
        if not claim.counts or not claim.pending or len(counts) >= size:
            return replace(claim, counts=counts)


def store_left_over(counters: Counters, store: Store) -> int:
    """Store and settle the batches that a flush has claimed but not settled; returns the counters
    stored.

    A batch that another flush is storing at this moment, or that cannot be stored, is left for the
    next time: it holds up no other, and reads go on counting it. Raises `RedisWentBack` before it
    stores anything from a Redis that is older than the ledger.
    """
    stored = 0
    patience_s = _LEFT_OVER_LOCK_TIMEOUT_S
    for batch_id in counters.open_batches():
        try:
            with store.transaction(patience_s) as transaction:
                # An older Redis may show a batch whose entry the ledger has forgotten since.
                counters.guard(transaction.newest_claim())
                claim = counters.take_over(batch_id)
                if claim.number:
                    stored += transaction.save([claim])
        except DBAPIError as error:
            if error.connection_invalidated or not getattr(error.orig, "sqlstate", None):
                raise
            patience_s = _NO_PATIENCE_S  # one stalled flush may hold many batches
            logger.warning("batch %s is set aside, the next flush tries again: %s", batch_id, error)
        else:
            counters.settle(batch_id)
    return stored
