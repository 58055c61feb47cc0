"""Counters -> Postgres, exactly once.

Batches that earlier flushes left are stored first, then counters are claimed and stored until none
is pending. Whatever step a crash falls on, the next flush finds the batch in the journal and
repeats it: the ledger decides whether it counts. Several flushes may run at once.
"""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock, get_native_id
from time import monotonic
from uuid import uuid4

from sqlalchemy.exc import DBAPIError

from pipeline.errors import BatchesLeft
from pipeline.flushing.claims import Claims
from pipeline.flushing.store import SORTED_IN_MEMORY, Store, Turn
from pipeline.measures import FLUSH_COUNTERS, FLUSH_S
from pipeline.postgres.refusals import is_about_server, is_about_timing
from pipeline.redis.client import server_time_s
from pipeline.traces.spans import ROWS, note_span

LANES = 2
"""While Postgres stores one lane's batch, the other reads its next."""
_WORTH_LANES = 20_000
_MOST_AT_ONCE = SORTED_IN_MEMORY // 2
"""Counters past which a claim takes no further bucket: what buckets of usual size then come to can
be sorted in memory."""
_NICENESS = 10
"""A tenth of a core beside one that is busy."""
_LOCK_TIMEOUT_S = 30.0
_LEFT_OVER_LOCK_TIMEOUT_S = 5.0
_NO_PATIENCE_S = 0.1

logger = logging.getLogger(__name__)


def flush(claims: Claims, store: Store, batch_size: int) -> int:
    """Store every pending counter and return how many were stored.

    A transaction stores `batch_size` counters, and as many more as are in the last bucket that it
    takes; in a large flush a lane's next takes twice as many. Raises
    sqlalchemy.exc.OperationalError when Postgres is away and redis.RedisError when Redis is: what
    was claimed stays in the journal, is read from there, and the next flush stores it. Raises
    `RedisWentBack` when Redis is older than what is stored, and at the end `BatchesLeft` when a
    batch of an earlier flush is still left.
    """
    began_s = server_time_s(claims.client)
    stored, left = store_left_over(claims, store)
    pending = claims.pending()
    lanes = LANES if pending > _WORTH_LANES else 1
    # Traffic goes on, so twice what was pending is taken before the flush lets it be.
    budget = 2 * pending // lanes + batch_size
    lane = partial(store_pending, claims, store, batch_size, budget, Lock())
    with ThreadPoolExecutor(lanes, "flush", initializer=_give_way) as pool:
        running = [pool.submit(copy_context().run, lane) for _ in range(lanes)]
    stored += sum(one.result() for one in running)
    claims.note_flush(began_s)
    if left:
        stored += _store_again(claims, store, left, stored)
    if stored:
        logger.info("flushed %d counters", stored)
    return stored


def _give_way() -> None:
    """Let other programs go first where all cores are busy, so that what waits for Redis does not
    notice a flush. On Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)


def store_pending(claims: Claims, store: Store, batch_size: int, budget: int, turn: Lock) -> int:
    """Claim, store and settle until nothing is pending or `budget` counters were taken; returns how
    many were stored. Postgres works on one lane at a time: in its `turn`."""
    stored = 0
    pending = True
    # The fewer the batches, the fewer the times that a flush goes through all of an index. They
    # grow: the first is soon read, and the next is read while that is stored.
    while pending and budget > 0:
        saved: int | None = 0
        with store.transaction() as transaction:  # first: while Postgres is away nothing is claimed
            began_s = monotonic()
            batch = claims.claim(uuid4().hex, batch_size, transaction.newest_claim())
            if batch.number:
                pages = claims.read_buckets(batch)
                saved = transaction.save(batch, pages, turn, as_is=False)
        if saved is None:
            store.make_partitions(transaction.days)
            stored += store_claimed(claims, store, batch.batch_id, turn=turn)
        elif batch.number:
            _measure(batch.batch_id, saved, began_s)
            claims.settle(batch.batch_id)
            stored += saved
        pending = batch.pending > 0
        budget -= batch.size
        if batch.pending > _WORTH_LANES:
            batch_size = min(2 * max(batch.size, batch_size), max(_MOST_AT_ONCE, batch_size))
    return stored


def store_left_over(claims: Claims, store: Store) -> tuple[int, dict[str, DBAPIError]]:
    """Store and settle the batches that a flush has claimed but not settled; returns the counters
    stored, and the batches that are left, with the reason.

    A batch that another flush is storing at this moment, or that cannot be stored, is left for the
    next time: it holds up no other, and reads go on counting it. What would be the same for every
    batch, such as a full disk, is raised. Raises `RedisWentBack` before it stores anything from a
    Redis that is older than the ledger.
    """
    stored, left = 0, dict[str, DBAPIError]()
    patience_s = _LEFT_OVER_LOCK_TIMEOUT_S
    for batch_id in claims.open_batches():
        try:
            stored += store_claimed(claims, store, batch_id, patience_s)
        except DBAPIError as error:
            if is_about_server(error):
                raise
            patience_s = _NO_PATIENCE_S  # one stalled flush may hold many batches
            why = str(error.orig).partition("\n")[0]  # a detail may quote the row, and so a user id
            ids = {"batch_id": batch_id}
            logger.warning("a batch is set aside, the next flush tries again: %s", why, extra=ids)
            left[batch_id] = error
    return stored, left


def store_claimed(
    claims: Claims,
    store: Store,
    batch_id: str,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
    turn: Turn | None = None,
) -> int:
    """Store and settle a batch of the journal, its partitions made first; returns the counters
    stored. May be repeated and raced."""
    saved: int | None = 0
    began_s = monotonic()
    for as_is in (False, True):
        with store.transaction(lock_timeout_s) as transaction:
            # An older Redis may show a batch whose entry the ledger has lost to pruning.
            claims.guard(transaction.newest_claim())
            # Read again: since it was claimed a user may have been erased from it.
            claim = claims.take_over(batch_id)
            if claim.number:
                saved = transaction.save(claim, claims.read_buckets(claim), turn, as_is=as_is)
        if saved is not None:
            break
        store.make_partitions(transaction.days)
    _measure(batch_id, saved or 0, began_s)
    claims.settle(batch_id)
    return saved or 0


def _measure(batch_id: str, counters: int, began_s: float) -> None:
    if counters:  # else another flush has stored the batch
        FLUSH_S.note(monotonic() - began_s)
        FLUSH_COUNTERS.note(counters)
        note_span("store batch", began_s, {ROWS: counters})
        logger.debug("stored a batch of %d counters", counters, extra={"batch_id": batch_id})


def _store_again(
    claims: Claims, store: Store, left: dict[str, DBAPIError], stored_before: int
) -> int:
    """Try once more what was in the way of another transaction; returns the counters stored. Raises
    `BatchesLeft` for the batches that are still left and that no other flush has stored."""
    stored = 0
    for batch_id, error in left.items():
        if is_about_timing(error):
            try:
                stored += store_claimed(claims, store, batch_id, _NO_PATIENCE_S)
            except DBAPIError as again:
                if is_about_server(again):
                    raise
                left[batch_id] = again
    still_left = [one for one in claims.open_batches() if one in left]
    if still_left:
        reason = str(left[still_left[0]].orig).partition("\n")[0]
        raise BatchesLeft(len(still_left), reason, stored_before + stored)
    return stored
