"""Counters -> Postgres, exactly once.

Batches that earlier flushes left are stored first, then counters are claimed and stored until none
is pending. Whatever step a crash falls on, the next flush finds the batch in the journal and
repeats it: the ledger decides whether it counts. Several flushes may run at once.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from sqlalchemy.exc import DBAPIError

from pipeline.counters import Claim, Counters
from pipeline.store import Store

CLAIMS_PER_TRANSACTION = 10
LANES = 2
"""While Postgres works on one lane's counters, Redis gives the other its own."""
_WORTH_LANES = 20_000
_LEFT_OVER_LOCK_TIMEOUT_S = 5.0
_NO_PATIENCE_S = 0.1

logger = logging.getLogger(__name__)


def flush(counters: Counters, store: Store, batch_size: int) -> int:
    """Store every pending counter and return how many were stored.

    `batch_size` counters are claimed at a time. Raises sqlalchemy.exc.OperationalError when
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
    with ThreadPoolExecutor(lanes, "flush") as pool:
        running = [
            pool.submit(store_pending, counters, store, batch_size, budget) for _ in range(lanes)
        ]
    stored += sum(lane.result() for lane in running)
    counters.note_flush(began_s)
    if stored:
        logger.info("flushed %d counters", stored)
    return stored


def store_pending(counters: Counters, store: Store, batch_size: int, budget: int) -> int:
    """Claim, store and settle until nothing is pending or `budget` counters were taken; returns how
    many were stored."""
    stored = 0
    pending = True
    while pending and budget > 0:
        claims: list[Claim] = []
        with store.transaction() as transaction:  # first: while Postgres is away nothing is claimed
            newest = transaction.newest_claim()
            while pending and budget > 0 and len(claims) < CLAIMS_PER_TRANSACTION:
                claim = counters.claim(uuid4().hex, batch_size, newest)
                pending = claim.pending > 0
                budget -= batch_size
                if claim.number:
                    claims.append(claim)
            if claims:
                stored += transaction.save(claims)
        for claim in claims:
            counters.settle(claim.batch_id)
    return stored


def store_left_over(counters: Counters, store: Store) -> int:
    """Store and settle the batches that a flush has claimed but not settled; returns the counters
    stored.

    A batch that another flush is storing at this moment, or that cannot be stored, is left for the
    next time: it holds up no other, and reads go on counting it. Raises `RedisWentBack` before it
    stores anything from a Redis that is older than the ledger.
    """
    stored = 0
    patience_s = _LEFT_OVER_LOCK_TIMEOUT_S
    for batch_id in counters.journal().open:
        try:
            with store.transaction(patience_s) as transaction:
                # An older Redis may show a batch whose entry the ledger has forgotten since.
                counters.guard(transaction.newest_claim())
                claim = counters.held(batch_id)
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
