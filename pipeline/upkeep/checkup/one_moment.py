"""Whether Redis and Postgres are of one moment, as they are unless one of them was restored."""

from __future__ import annotations

import redis
from sqlalchemy import Engine, select

from pipeline.errors import PipelineError
from pipeline.flushing.claims import Claims
from pipeline.flushing.ledger import newest_claim
from pipeline.postgres.tables import flush_batches
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.upkeep.checkup.check import Check
from pipeline.upkeep.condition.ledgers import read_claims

NAME = "one moment"
_COMPARED = 10_000


def check_moment(client: redis.Redis, keys: Keys, engine: Engine) -> Check:
    """Compare the claims that Redis has numbered with those that the ledger in Postgres holds, and
    the batches that Redis has settled of late with the ledger."""
    try:
        with report_errors(redis=client, postgres=engine):
            # The ledger is read first: what it has, Redis has claimed before.
            with engine.connect() as connection:
                newest = newest_claim(connection)
            claims = read_claims(client, keys)
            lost = _count_lost(client, keys, engine)
    except PipelineError as error:
        return Check(NAME, "unknown", f"Redis and Postgres could not be compared ({error})")
    if newest > claims:
        return Check(
            NAME,
            "wrong",
            f"Redis is older than Postgres: it has numbered {claims[1]} claims of epoch "
            f"{claims[0]}, and claim {newest[1]} of epoch {newest[0]} is stored",
            "`analytics accept-redis-state` lets flushes go on, then `analytics rebuild` makes the "
            "counts of the days concerned anew from the archive: "
            "see docs/guides/operating/backup.md",
        )
    if lost:
        return Check(
            NAME,
            "wrong",
            f"Postgres is older than Redis: {lost} batches that were stored are not in its ledger",
            "restore a newer Postgres; where there is none, their counts are lost but for what "
            "`analytics rebuild` finds in the archive: see docs/guides/operating/backup.md",
        )
    return Check(NAME, "fine", "Redis and Postgres agree on what was stored")


def _count_lost(client: redis.Redis, keys: Keys, engine: Engine) -> int:
    """How many batches of the last day Redis has seen stored that the ledger does not hold."""
    settled = Claims(client, keys).settled_batches(_COMPARED)
    if not settled:
        return 0
    held = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id.in_(settled))
    with engine.connect() as connection:
        found = {str(one) for one in connection.execute(held).scalars()}
    return len(settled - found)
