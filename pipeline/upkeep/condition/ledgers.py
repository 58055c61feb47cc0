"""What flushes have stored and archive runs have archived of late, as the ledgers in Postgres say,
and whether Redis is behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
from sqlalchemy import Column, Connection, Engine, Integer, Table, func, select

from pipeline.contract import ARCHIVE_EVENTS, AUDIT, FLUSH_COUNTERS
from pipeline.flushing.ledger import newest_claim
from pipeline.postgres.tables import archived_entries, flush_batches
from pipeline.redis.keys import Keys
from pipeline.upkeep.condition.history import Stretches
from pipeline.upkeep.dead_letters import count_open

_CLOCKS_DIFFER_S = 2.0


@dataclass(frozen=True)
class LastRun:
    """When the last run of a task ended well (aware, UTC), and how long it took, in seconds."""

    at: datetime
    took_s: float | None


@dataclass(frozen=True)
class Stored:
    """What Postgres says. `stored` counters and `archived` events by stretch of time; when the last
    flush that had something to store ended, and how many counters it stored."""

    stored: list[float]
    archived: list[float]
    dead_letters: int
    newest_claim: tuple[int, int]
    last_stored_at: datetime | None
    last_stored: int
    is_of_run: bool
    """Whether that was the last run of its task."""
    last_archived_at: datetime | None


def read_last_runs(client: redis.Redis, keys: Keys) -> dict[str, LastRun | None]:
    """The last runs of `flush`, `archive` and `audit` in their lanes. Raises redis.RedisError."""
    tasks = {"flush": FLUSH_COUNTERS, "archive": ARCHIVE_EVENTS, "audit": AUDIT}
    fields = [f"{task}:{what}" for task in tasks.values() for what in ("ended_ms", "took_ms")]
    values: Any = client.hmget(keys.requests, fields)
    pairs = zip(values[::2], values[1::2], strict=True)
    return {name: _read_run(*pair) for name, pair in zip(tasks, pairs, strict=True)}


def _read_run(ended_ms: bytes | None, took_ms: bytes | None) -> LastRun | None:
    if ended_ms is None:
        return None
    at = datetime.fromtimestamp(int(ended_ms) / 1000, UTC)
    return LastRun(at, int(took_ms) / 1000 if took_ms is not None else None)


def read_claims(client: redis.Redis, keys: Keys) -> tuple[int, int]:
    """The epoch and the number of claims that Redis has reached. Raises redis.RedisError."""
    epoch, claims = cast("list[bytes | None]", client.hmget(keys.totals, ["epoch", "claims"]))
    return int(epoch or 0), int(claims or 0)


def read_stored(engine: Engine, stretches: Stretches, last_flush: LastRun | None) -> Stored:
    """What the ledgers say. Raises sqlalchemy.exc.OperationalError when Postgres is away."""
    with engine.connect() as connection:
        last_at, last, is_of_run = _read_last_flush(connection, last_flush)
        newest_archived = select(func.max(archived_entries.c.archived_at))
        return Stored(
            _spread(connection, flush_batches, flush_batches.c.rows, stretches),
            _spread(connection, archived_entries, archived_entries.c.events, stretches),
            count_open(connection),
            newest_claim(connection),
            last_at,
            last,
            is_of_run,
            connection.execute(newest_archived).scalar(),
        )


def _spread(
    connection: Connection, ledger: Table, what: Column[int], stretches: Stretches
) -> list[float]:
    at = ledger.c.stored_at if ledger is flush_batches else ledger.c.archived_at
    begin = datetime.fromtimestamp(stretches.begin_s, UTC)
    seconds = func.extract("epoch", at) - stretches.begin_s
    position = func.floor(seconds / stretches.each_s).cast(Integer).label("position")
    sums = select(position, func.sum(what)).where(at >= begin).group_by(position)
    found = [0.0] * stretches.number
    for number, total in connection.execute(sums):
        # The clock of Postgres may be ahead.
        found[min(number, stretches.number - 1)] += float(total)
    return found


def _read_last_flush(
    connection: Connection, last_flush: LastRun | None
) -> tuple[datetime | None, int, bool]:
    """A flush stores several batches: those stored while its run went on are its own. One that was
    made by hand has no run, and its last batch stands for it."""
    newest = connection.execute(select(func.max(flush_batches.c.stored_at))).scalar()
    if newest is None:
        return None, 0, False
    began, is_of_run = newest, False
    if last_flush is not None and last_flush.took_s is not None:
        patience = timedelta(seconds=_CLOCKS_DIFFER_S)
        run_began = last_flush.at - timedelta(seconds=last_flush.took_s) - patience
        if run_began <= newest <= last_flush.at + patience:
            began, is_of_run = run_began, True
    total = select(func.sum(flush_batches.c.rows)).where(flush_batches.c.stored_at >= began)
    return newest, int(connection.execute(total).scalar() or 0), is_of_run
