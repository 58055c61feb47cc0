"""The ledger of flushes in Postgres: which batches are stored, and what that says of Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, func, select

from pipeline.errors import RedisWentBack
from pipeline.flushing.claims import Claim
from pipeline.postgres.tables import flush_batches

_PRUNED_AT_ONCE = 1_000


def newest_claim(connection: Connection) -> tuple[int, int]:
    """The (epoch, number) of the newest claim in the ledger; (0, 0) while it is empty."""
    newest = (
        select(flush_batches.c.epoch, flush_batches.c.claim)
        .order_by(flush_batches.c.epoch.desc(), flush_batches.c.claim.desc())
        .limit(1)
    )
    found = connection.execute(newest).first()
    return (found.epoch, found.claim) if found else (0, 0)


def explain_number_given_twice(claim: Claim) -> RedisWentBack:
    """The error to raise when Redis has given one number to two claims: it lost the first one and
    went on."""
    return RedisWentBack(
        f"another batch is stored under claim {claim.number} of epoch {claim.epoch}: "
        "Redis was restored to an older state while a flush ran, and what it holds may "
        "be counted twice. Compare the counts, then run "
        "`analytics accept-redis-state` to go on"
    )


def prune_batches(
    engine: Engine, stored_before: datetime, listed: Callable[[Sequence[str]], set[str]]
) -> None:
    """Delete what the ledger holds from before then, but never its newest entry, nor one whose
    batch is among the `listed` of Redis: a flush may still find that in the journal, and only the
    ledger says that it is stored. May be repeated."""
    newest = select(func.max(flush_batches.c.stored_at)).scalar_subquery()
    old = select(flush_batches.c.batch_id).where(
        flush_batches.c.stored_at < stored_before, flush_batches.c.stored_at < newest
    )
    with engine.begin() as connection:
        ids = list(connection.execute(old).scalars())
        for first in range(0, len(ids), _PRUNED_AT_ONCE):
            page = ids[first : first + _PRUNED_AT_ONCE]
            unlisted = set(page) - listed(page)
            connection.execute(delete(flush_batches).where(flush_batches.c.batch_id.in_(unlisted)))
